// Socket.IO: `msg` goes to all, `echo` back: node_socketio.js PORT

const { createServer } = require('http');
const { Server } = require('socket.io');

const http = createServer();
const server = new Server(http);

server.on('connection', (socket) => {
  socket.on('msg', (message) => server.emit('msg', message));
  socket.on('echo', (message) => socket.emit('echo', message));
});

http.listen(Number(process.argv[2]), '127.0.0.1');
