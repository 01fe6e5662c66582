// The contract in Chromium: serves the page from two origins, and opens it as it is told.
//
//     node browser.js
//
// Its first line of output names the origins: {"listed": …, "other": …}; which of them the service lets in is for who
// starts it to set. Then each line of input is a job for a page of an origin, and is answered with one line:
//
//   {"origin", "endpoint", "protocol", "count", "headers"}  what the page has sent, as tests/sdk/README.md has it
//   {"origin", "url", "body"}                               whether the page could post that as a form does, unasked
//
// The end of the input ends it.

import { execFileSync } from 'node:child_process';
import { createServer } from 'node:http';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

async function script() {
  const here = dirname(fileURLToPath(import.meta.url));
  const built = await build({
    absWorkingDir: here,
    entryPoints: ['page.js'],
    bundle: true,
    write: false,
    preserveSymlinks: true,
    platform: 'browser',
    format: 'iife',
    logLevel: 'warning',
  });
  return built.outputFiles[0].text;
}

/** Serves the page on a free port, and returns its origin. */
function serve(body) {
  const server = createServer((request, response) => {
    const [status, type, text] = {
      '/': [200, 'text/html; charset=utf-8', '<!doctype html><title>contract</title><script src="/page.js"></script>'],
      '/page.js': [200, 'text/javascript; charset=utf-8', body],
    }[request.url] ?? [404, 'text/plain', ''];
    response.writeHead(status, { 'content-type': type }).end(text);
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`));
  });
}

const body = await script();
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? execFileSync('which', ['chromium'], { encoding: 'utf8' }).trim(),
  args: FLAGS,
  handleSIGTERM: false,
});
// At its exit Chromium is ended, and its directory removed.
process.on('SIGTERM', () => process.exit(0));
const origins = { listed: await serve(body), other: await serve(body) };
console.log(JSON.stringify(origins));

/** No question is asked before such a request, and its answer is kept from the page: what counts is that it is sent. */
async function post({ url, body }) {
  const answer = await fetch(url, { method: 'POST', mode: 'no-cors', headers: { 'content-type': 'text/plain' }, body });
  return { sent: answer.type === 'opaque' };
}

for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  const patience = setTimeout(() => process.exit(1), 120_000);
  const page = await browser.newPage();
  page.on('console', (message) => console.error(message.text()));
  await page.goto(job.origin);
  const answer = job.url ? page.evaluate(post, job) : page.evaluate((job) => window.sendContract(job), job);
  console.log(JSON.stringify(await answer));
  await page.close();
  clearTimeout(patience);
}
await browser.close();
process.exit(0);
