// Reads a JSON list of AsyncAPI documents and prints, for each, the list of its errors and warnings.
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

const { Parser } = createRequire(import.meta.url)("@asyncapi/parser"); // found by NODE_PATH
const WARNING = 1; // 0 is an error; 2 and 3 are advice

const parser = new Parser();
const found = [];
for (const document of JSON.parse(await text(process.stdin))) {
  const { diagnostics } = await parser.parse(JSON.stringify(document));
  const grave = diagnostics.filter(({ severity }) => severity <= WARNING);
  found.push(grave.map(({ severity, code, message, path }) => ({ severity, code, message, path: path.join(".") })));
}
console.log(JSON.stringify(found));
