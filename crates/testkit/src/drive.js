// Puts the line protocol before an HTTP server: one path a line, one response body a line.
//
// `drive.js SERVER.js --socket PATH`. The server runs in this process; it is asked over HTTP, as ever.
'use strict';

const http = require('node:http');
const net = require('node:net');
const path = require('node:path');
const readline = require('node:readline');

const [file, , socket] = process.argv.slice(2);
const server = require(path.resolve(file));

function get(port, url) {
  return new Promise((resolve) => {
    const request = http.get({ port, host: '127.0.0.1', path: url }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('end', () => resolve(Buffer.concat(parts).toString()));
    });
    request.on('error', (error) => resolve(`error ${error.message}`));
  });
}

server.once('listening', () => {
  const line = net.connect(socket, () => line.write('ready\n'));
  readline.createInterface({ input: line }).on('line', async (url) => {
    line.write(`${await get(server.address().port, url)}\n`);
  });
  line.on('close', () => process.exit(0));
});
