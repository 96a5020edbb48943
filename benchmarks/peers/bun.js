// Bun, whose WebSockets are uWebSockets, with its own publish and subscribe: bun.js PORT [deflate]

const compress = process.argv[3] === 'deflate';

Bun.serve({
  port: Number(process.argv[2]),
  hostname: '127.0.0.1',
  fetch(request, server) {
    const isEcho = new URL(request.url).pathname === '/echo';
    if (server.upgrade(request, { data: { isEcho } })) return;
    return new Response('not a WebSocket', { status: 400 });
  },
  websocket: {
    perMessageDeflate: compress,
    open(socket) {
      if (!socket.data.isEcho) socket.subscribe('all');
    },
    message(socket, message) {
      if (!socket.data.isEcho) socket.publish('all', message, compress); // to all but itself
      socket.send(message, compress);
    },
  },
});
