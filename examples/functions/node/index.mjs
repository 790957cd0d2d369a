// Answers with the event that it got, and how many it has seen.

let seen = 0;

export async function handler(event) {
  seen += 1;
  return { event, seen };
}
