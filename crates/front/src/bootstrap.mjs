// Runs a Node handler behind the AWS Lambda Runtime API, with nothing but what Node brings.
//
// Serves where the package has no `aws-lambda-ric`. Usage: node bootstrap.mjs MODULE.FUNCTION

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { Writable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import util from 'node:util';

const [HOST, PORT] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const API = '/2018-06-01/runtime';
const ERROR_TYPE = 'Lambda-Runtime-Function-Error-Type';
const ERROR_BODY = 'Lambda-Runtime-Function-Error-Body';
// What Amazon's client marks streaming handlers with: handlers may have been wrapped by its own library.
const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const WITH_PRELUDE = 'application/vnd.awslambda.http-integration-response';

// One connection, kept open: a sandbox sleeps in the middle of `next`.
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function request(method, where, headers, onResponse) {
  return http.request({ host: HOST, port: PORT, agent, method, path: API + where, headers }, onResponse);
}

function call(method, where, body = '', headers = {}) {
  const length = method === 'GET' ? {} : { 'Content-Length': Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const sent = request(method, where, { ...headers, ...length }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => {
        resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString() });
      });
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

class RuntimeError extends Error {
  constructor(kind, message) {
    super(message);
    this.name = `Runtime.${kind}`;
  }
}

/** The error as Lambda shapes it. */
function describe(error) {
  if (!(error instanceof Error)) {
    return { errorType: typeof error, errorMessage: String(error), trace: [] };
  }
  return { errorType: error.name, errorMessage: error.message, trace: (error.stack ?? '').split('\n') };
}

function fail(where, error) {
  const described = describe(error);
  console.error(error);
  const headers = { 'Content-Type': 'application/json', [ERROR_TYPE]: described.errorType };
  return call('POST', where, JSON.stringify(described), headers);
}

/** An answer piece by piece. Its request is sent with the first of them: until then the content type can be set. */
class ResponseStream extends Writable {
  constructor(id) {
    super();
    this.id = id;
    this.contentType = 'application/octet-stream';
    this.sent = null;
    this.done = new Promise((resolve, reject) => { this.settle = { resolve, reject }; });
    this.done.catch(() => {}); // Whoever waits for it sees it.
  }

  setContentType(contentType) {
    this.contentType = contentType;
  }

  open() {
    if (this.sent) return this.sent;
    const headers = {
      'Content-Type': this.contentType,
      'Lambda-Runtime-Function-Response-Mode': 'streaming',
      'Transfer-Encoding': 'chunked',
      Trailer: `${ERROR_TYPE}, ${ERROR_BODY}`,
    };
    this.sent = request('POST', `/invocation/${this.id}/response`, headers, (response) => {
      response.resume();
      response.on('end', this.settle.resolve);
    });
    this.sent.on('error', this.settle.reject);
    if (this.prelude) this.sent.write(this.prelude);
    return this.sent;
  }

  _write(chunk, encoding, callback) {
    this.open().write(chunk, encoding, callback);
  }

  _final(callback) {
    this.open().end(callback);
  }

  /** Ends it with an error after what was sent. */
  async breakOff(error) {
    const described = describe(error);
    console.error(error);
    const body = Buffer.from(JSON.stringify(described)).toString('base64');
    this.sent.addTrailers({ [ERROR_TYPE]: described.errorType, [ERROR_BODY]: body });
    this.sent.end();
    await this.done;
  }
}

globalThis.awslambda = {
  ...globalThis.awslambda,
  streamifyResponse(handler) {
    handler[STREAMING] = 'response';
    return handler;
  },
  HttpResponseStream: {
    /** Sends status, headers and cookies before the first piece. */
    from(stream, prelude) {
      stream.setContentType(WITH_PRELUDE);
      stream.prelude = Buffer.concat([Buffer.from(JSON.stringify(prelude)), Buffer.alloc(8)]);
      return stream;
    },
  },
};

/** The handler that `dir/module.function` names. */
async function load(name) {
  const { dir, base } = path.parse(name);
  const dot = base.indexOf('.');
  if (dot < 1 || dot === base.length - 1) throw new RuntimeError('MalformedHandlerName', `Bad handler '${name}'`);
  const module = path.join(dir, base.slice(0, dot));
  const stem = path.resolve(process.env.LAMBDA_TASK_ROOT ?? '.', module);
  const file = ['', '.js', '.mjs', '.cjs'].map((ending) => stem + ending)
    .find((candidate) => fs.statSync(candidate, { throwIfNoEntry: false })?.isFile());
  if (!file) throw new RuntimeError('ImportModuleError', `Error: Cannot find module '${module}'`);
  let loaded;
  try {
    loaded = await import(pathToFileURL(file).href);
  } catch (error) {
    if (error instanceof SyntaxError) throw new RuntimeError('UserCodeSyntaxError', String(error));
    if (/MODULE_NOT_FOUND$/.test(error?.code)) throw new RuntimeError('ImportModuleError', String(error));
    throw error;
  }
  const inside = (from) => base.slice(dot + 1).split('.').reduce((found, part) => found?.[part], from);
  const handler = inside(loaded) ?? inside(loaded.default);
  if (typeof handler !== 'function') {
    throw new RuntimeError('HandlerNotFound', `${name} is undefined or not exported`);
  }
  return handler;
}

let current = null;

/** The lines of a handler say when, for which invocation, and how grave. */
function patchConsole() {
  const levels = { log: 'INFO', info: 'INFO', debug: 'DEBUG', trace: 'TRACE', warn: 'WARN', error: 'ERROR' };
  for (const [method, level] of Object.entries(levels)) {
    console[method] = (...values) => {
      const text = util.format(...values);
      process.stdout.write(`${new Date().toISOString()}\t${current ?? 'undefined'}\t${level}\t${text}\n`);
    };
  }
}

function context(headers) {
  const env = process.env;
  const parsed = (name) => (headers[name] ? JSON.parse(headers[name]) : undefined);
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  return {
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: parsed('lambda-runtime-client-context'),
    identity: parsed('lambda-runtime-cognito-identity'),
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
  };
}

/** What the handler answers: by a promise, by its callback, or, in old ones, through its context. */
function answer(handler, event, about) {
  return new Promise((resolve, reject) => {
    const callback = (error, result) => (error ? reject(error) : resolve(result));
    const old = { done: callback, succeed: resolve, fail: reject };
    const result = handler(event, { ...about, ...old }, callback);
    if (typeof result?.then === 'function') result.then(resolve, reject);
    // One that takes no callback and gives no promise has answered.
    else if (handler.length < 2) resolve(result);
  });
}

async function stream(handler, event, about, id) {
  const response = new ResponseStream(id);
  const finished = new Promise((resolve, reject) => response.on('finish', resolve).on('error', reject));
  try {
    await handler(event, response, about);
    if (!response.writableEnded) response.end();
    await finished;
    await response.done;
  } catch (error) {
    finished.catch(() => {});
    if (response.sent) await response.breakOff(error);
    else await fail(`/invocation/${id}/error`, error);
  }
}

async function serve(handler) {
  current = null;
  const { status, headers, body } = await call('GET', '/invocation/next');
  if (status !== 200) throw new Error(`the Runtime API said ${status}: ${body}`);
  const id = headers['lambda-runtime-aws-request-id'];
  current = id;
  if (headers['lambda-runtime-trace-id']) process.env._X_AMZN_TRACE_ID = headers['lambda-runtime-trace-id'];
  if (handler[STREAMING]) return stream(handler, JSON.parse(body), context(headers), id);
  let text;
  try {
    text = JSON.stringify(await answer(handler, JSON.parse(body), context(headers))) ?? 'null';
  } catch (error) {
    return fail(`/invocation/${id}/error`, error);
  }
  const said = await call('POST', `/invocation/${id}/response`, text, { 'Content-Type': 'application/json' });
  if (said.status === 413) console.error(`response of ${text.length} characters refused: ${said.body}`);
}

/** What nobody caught ends the process, after it was told. */
function die(error, kind) {
  const where = current ? `/invocation/${current}/error` : '/init/error';
  const told = kind ? new RuntimeError(kind, String(error?.message ?? error)) : error;
  if (kind && error?.stack) told.stack = error.stack;
  agent.maxSockets = 2; // The connection may be busy with the answer that fails.
  fail(where, told).finally(() => process.exit(kind ? 128 : 129));
}

patchConsole();
process.env.AWS_EXECUTION_ENV = `AWS_Lambda_nodejs${process.versions.node.split('.')[0]}.x`;
process.on('uncaughtException', (error) => die(error));
process.on('unhandledRejection', (error) => die(error, 'UnhandledPromiseRejection'));
let handler;
try {
  handler = await load(process.argv[2] ?? process.env._HANDLER);
} catch (error) {
  await fail('/init/error', error);
  process.exit(1);
}
for (;;) await serve(handler);
