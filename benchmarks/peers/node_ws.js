// Node with the ws library and a loop over its clients: node_ws.js PORT

const { WebSocketServer } = require('ws');

const server = new WebSocketServer({ port: Number(process.argv[2]), host: '127.0.0.1', perMessageDeflate: false });

server.on('connection', (socket, request) => {
  const isEcho = request.url === '/echo';
  socket.on('message', (message, isBinary) => {
    if (isEcho) {
      socket.send(message, { binary: isBinary });
    } else {
      for (const client of server.clients) client.send(message, { binary: isBinary });
    }
  });
});
