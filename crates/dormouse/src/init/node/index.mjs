export async function handler(event, context) {
  return { hello: event.name ?? "world" };
}
