// Loaded before a server of somebody else: makes it listen on a free port of the loopback
// interface, whatever it asks for, and say which one it got.
const net = require("node:net");

const { listen } = net.Server.prototype;
net.Server.prototype.listen = function (_port, ...rest) {
  this.once("listening", () => console.log(`listening on ${this.address().port}`));
  return listen.call(this, { port: 0, host: "127.0.0.1" }, rest.at(-1));
};

// Node 18, which Debian 12 has, keeps this name behind a flag; the MCP SDK relies on it.
globalThis.crypto ??= require("node:crypto").webcrypto;
