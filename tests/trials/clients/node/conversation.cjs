// A cluster client of JavaScript, ioredis, that does what it is told: HOST PORT PROTOCOL, then lines of words.
// Each line is answered by a line of JSON; see `test_cluster_clients.py` for the words.

const { Cluster } = require("ioredis");
const readline = require("node:readline");

const SCRIPT = "return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1])}";
const [host, port, protocol] = process.argv.slice(2);
const cluster = new Cluster([{ host, port: Number(port) }], {
  scaleReads: "slave",
  shardedSubscribers: true,
  enableAutoPipelining: true,
  redisOptions: { protocol: Number(protocol) },
});
cluster.on("error", (error) => console.error(error));
cluster.defineCommand("add", { numberOfKeys: 1, lua: SCRIPT });
const messages = new Map();
cluster.on("smessage", (channel, message) => messages.get(channel)(message));

const words = {
  ports: () => cluster.nodes("all").map((node) => node.options.port).sort((a, b) => a - b),
  set: (value, ...keys) => Promise.all(keys.map((key) => cluster.set(key, value))),
  get: (...keys) => Promise.all(keys.map((key) => cluster.get(key))),
  lengths: (...keys) => Promise.all(keys.map((key) => cluster.strlen(key))),
  add: (...keys) => Promise.all(keys.map((key) => cluster.add(key, 2))),
  tell: async (...channels) => {
    const told = [];
    for (const channel of channels) {
      const heard = new Promise((resolve) => messages.set(channel, resolve));
      await cluster.ssubscribe(channel);
      await cluster.spublish(channel, `to ${channel}`);
      told.push(await heard);
    }
    return told;
  },
};

(async () => {
  await new Promise((resolve) => cluster.once("ready", resolve));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [word, ...rest] = line.split(" ");
    console.log(JSON.stringify(await words[word](...rest)));
  }
  cluster.disconnect();
})();
