// A client in another language, from the .proto files: replays a recording, a step at a time.
//
//     npm ci
//     tickcell sample | node replay.js localhost:50061 > outputs.csv
//
// All of the contract that a client has to keep is in `step`: it numbers its steps, and whenever it
// does not know what became of one, it sends the very same request again.
import { fileURLToPath } from 'node:url';
import { randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const definition = loader.loadSync('tickcell/v1/session_service.proto', {
  includeDirs: [here('../../proto'), here('.')],
  longs: Number, // steps stay far below 2^53
  keepCase: true,
});
const { tickcell } = grpc.loadPackageDefinition(definition);

// After these the outcome is unknown, or the server is on its way back.
const AGAIN = [grpc.status.UNAVAILABLE, grpc.status.DEADLINE_EXCEEDED, grpc.status.UNKNOWN];
const DEADLINE_MS = 5000;
const RETRY_FOR_MS = 60000;

const address = process.argv[2] ?? 'localhost:50061';
// A connection that is lost is made again after 2 s at most; gRPC's own limit is two minutes.
const client = new tickcell.v1.SessionService(address, grpc.credentials.createInsecure(), {
  'grpc.max_reconnect_backoff_ms': 2000,
  'grpc.enable_retries': 0,
});

const attempt = (method, request) =>
  new Promise((resolve, reject) => {
    const deadline = Date.now() + DEADLINE_MS;
    client[method](request, { deadline }, (error, reply) => (error ? reject(error) : resolve(reply)));
  });

async function call(method, request) {
  const until = Date.now() + RETRY_FOR_MS;
  for (;;) {
    try {
      return await attempt(method, request);
    } catch (error) {
      if (!AGAIN.includes(error.code) || Date.now() > until) throw error;
      await sleep(100);
    }
  }
}

async function step(session, first_step, frame) {
  const { id, generation } = session;
  const request = { session: id, generation, first_step, step_count: 1, frames: frame };
  return (await call('StepSession', request)).outputs;
}

// The request's id makes a second try return the session that the first one created.
const { session } = await call('CreateSession', { session: randomUUID(), request_id: randomUUID() });
let next = 0;
let names;
for await (const line of createInterface({ input: process.stdin })) {
  const cells = line.split(',');
  if (names === undefined) {
    names = cells;
    continue;
  }
  // Without the time, and without a label: as many readings as the model has sensors.
  const frame = cells.slice(1, 1 + session.sensor_count).map(Number);
  const outputs = await step(session, next, frame);
  console.log([next, ...outputs].join(','));
  next += 1;
}
await call('DeleteSession', { session: session.id, generation: session.generation });
client.close();
