// Node's `ws` in the conversation: node node.js BASE DEFLATE NAME AUTHORITY; what each step ended with is its output.
"use strict";

const fs = require("fs");
const { WebSocket } = require("ws");
const { converse } = require("./conversation.js");

const [base, deflate, name, authority] = process.argv.slice(2);

const can = {
  ping: (socket, payload) => new Promise((done) => {
    socket.once("pong", (answer) => done(answer.toString()));
    socket.ping(payload);
  }),
  sendParts: (socket, parts) => parts.forEach((part, index) => socket.send(part, { fin: index === parts.length - 1 })),
  bytesRead: (socket) => socket._socket.bytesRead,
};

const connect = (url, subprotocols) => new WebSocket(url, subprotocols, { ca: fs.readFileSync(authority) });
converse(base, deflate === "on", name, connect, can).then((results) => console.log(JSON.stringify(results)));
