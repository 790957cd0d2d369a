// A function for the bench, as worker.py is one, for Node: objects with strings and numbers, a request a connection.
//
// usage: worker.js NAME SOCKET WARM_UP_CALLS
'use strict';

const { createHash } = require('node:crypto');
const net = require('node:net');

const [, , , socket, warmUpCalls] = process.argv;

let draw = 7;
const next = () => (draw = (Math.imul(draw, 1664525) + 1013904223) >>> 0);
const people = Array.from({ length: 20_000 }, (_, i) => ({
  name: `person-${i}`,
  age: i % 90,
  tags: [next().toString(36), next().toString(36)],
}));

function answer(n) {
  const chosen = people.slice(n % 100, (n % 100) + 200);
  return createHash('sha256').update(JSON.stringify(chosen)).digest('hex');
}

for (let n = 0; n < Number(warmUpCalls); n++) answer(n);

const server = net.createServer((connection) => {
  connection.on('error', () => {});
  connection.on('data', (line) => connection.end(`${answer(parseInt(line.toString(), 10))}\n`));
});
server.listen(socket);
