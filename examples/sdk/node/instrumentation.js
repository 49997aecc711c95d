// The set-up of OpenTelemetry's "Getting Started": node --require ./instrumentation.js service.js
const { NodeSDK } = require("@opentelemetry/sdk-node");
const { HttpInstrumentation } = require("@opentelemetry/instrumentation-http");
const { UndiciInstrumentation } = require("@opentelemetry/instrumentation-undici");

const sdk = new NodeSDK({
  // What comes in and goes out by node:http, and what goes out by fetch.
  instrumentations: [new HttpInstrumentation(), new UndiciInstrumentation()],
});
sdk.start();
