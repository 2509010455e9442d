// OpenAI's own SDK against `/v1`: prints what it got, one JSON line.
// node openai.mjs <base url> <key>
import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "还在吗" }];
const found = {};

found.models = (await client.models.list()).data.map((model) => model.id);
const whole = await client.chat.completions.create({ model: "default", messages });
found.whole = { text: whole.choices[0].message.content, usage: whole.usage.total_tokens };

const stream = await client.chat.completions.create({
  model: "default",
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
found.streamed = { text: "", finish: null, usage: 0 };
for await (const chunk of stream) {
  found.streamed.text += chunk.choices[0]?.delta?.content ?? "";
  found.streamed.finish = chunk.choices[0]?.finish_reason ?? found.streamed.finish;
  found.streamed.usage = chunk.usage?.total_tokens ?? found.streamed.usage;
}

const embeddings = await client.embeddings.create({ model: "embedding", input: ["a", "b"] });
found.embeddings = embeddings.data.map((entry) => entry.embedding.length);

// Each error as the SDK's own class.
async function raised(work) {
  try {
    await work();
  } catch (error) {
    return { kind: error.constructor.name, status: error.status ?? null, code: error.code ?? null };
  }
  return null;
}
const ask = (model, more = {}) => client.chat.completions.create({ model, messages, ...more });
found.unknownModel = await raised(() => ask("nobody-has-this"));
found.badField = await raised(() => ask("default", { temperature: 9 }));
found.wrongKey = await raised(() => new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 }).models.list());
found.brokenOff = await raised(async () => {
  for await (const chunk of await ask("breaks", { stream: true })) void chunk;
});
console.log(JSON.stringify(found));
