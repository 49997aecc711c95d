// Asks the next service, where NEXT has its address, and says who answered. Knows nothing of tracing.
const http = require("node:http");

const { NEXT, PORT } = process.env;

async function answer(request, response) {
  const behind = NEXT ? " " + (await (await fetch(NEXT)).text()) : "";
  response.end("node" + behind);
}

http.createServer((request, response) => {
  answer(request, response).catch((error) => {
    response.statusCode = 502;
    response.end(String(error));
  });
}).listen(Number(PORT), "127.0.0.1");
