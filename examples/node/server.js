// An HTTP server for `dormouse run -- node examples/node/server.js`: not a function, no Lambda API. It holds some
// 40 MB of objects and has a timer that fires every 20 ms.
//
// Shows a JIT, a garbage collector with threads of its own and an event loop, asleep and awake. Listens on
// 127.0.0.1, PORT (3000), and prints `ready PORT`.
//
// GET /?n=K       {"n": K, "answer": HASH}: the same K gives the same answer
// GET /verify     {"sha256": HASH} of everything it holds
// GET /ticks      {"ticks": N}: how often the timer has fired
'use strict';

const { createHash } = require('node:crypto');
const http = require('node:http');

const ENTRIES = 120_000;

/** Objects that follow from a seed, with strings and arrays of their own. */
function build(seed) {
  let draw = seed >>> 0;
  const next = () => (draw = (Math.imul(draw, 1664525) + 1013904223) >>> 0);
  return Array.from({ length: ENTRIES }, (_, i) => ({
    key: `key-${i}`,
    text: next().toString(36).repeat(8),
    numbers: [next(), next(), next()],
    even: i % 2 === 0,
  }));
}

const sha256 = (value) => createHash('sha256').update(JSON.stringify(value)).digest('hex');

const state = build(1);
let ticks = 0;
setInterval(() => {
  ticks += 1;
}, 20);

function answer(url) {
  if (url.pathname === '/verify') {
    const hash = createHash('sha256');
    for (const entry of state) hash.update(JSON.stringify(entry));
    return { sha256: hash.digest('hex') };
  }
  if (url.pathname === '/ticks') return { ticks };
  const n = Number.parseInt(url.searchParams.get('n') ?? '0', 10) || 0;
  const start = Math.abs(n * 37) % (ENTRIES - 500);
  return { n, answer: sha256(state.slice(start, start + 500)) };
}

const server = http.createServer((request, response) => {
  const body = JSON.stringify(answer(new URL(request.url, 'http://localhost')));
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  response.end(body);
});

server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`ready ${server.address().port}`);
});
