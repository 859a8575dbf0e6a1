// Send spans with an OpenTelemetry JavaScript exporter and tell what was sent, as one line of JSON.
// node exporter.cjs NAME URL COMPRESSION, with NODE_PATH naming a folder of packages.
"use strict";
const [name, url, compression] = process.argv.slice(2);
const { OTLPTraceExporter } = require(`@opentelemetry/exporter-trace-otlp-${name}`);
const { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } = require("@opentelemetry/sdk-trace-base");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } = require("@opentelemetry/api");

const memory = new InMemorySpanExporter();
const provider = new BasicTracerProvider({
  resource: resourceFromAttributes({ "service.name": "hermes" }),
  spanProcessors: [new SimpleSpanProcessor(memory)],
});
const tracer = provider.getTracer("js", "1");
const root = tracer.startSpan("agent", { attributes: { "session.id": "js", cut: "x\ud83d" } }, ROOT_CONTEXT);
const child = tracer.startSpan(
  "api.m",
  { kind: SpanKind.CLIENT, links: [{ context: root.spanContext() }], attributes: { n: 7, x: 0.5, yes: true, list: ["ü", "☃"] } },
  trace.setSpan(ROOT_CONTEXT, root),
);
child.addEvent("retry", { count: 2 });
child.setStatus({ code: SpanStatusCode.ERROR, message: "no quota" });
child.end();
root.end();

const spans = memory.getFinishedSpans();
const nanoseconds = ([seconds, rest]) => String(BigInt(seconds) * 1000000000n + BigInt(rest));
const exporter = new OTLPTraceExporter({ url, compression });
exporter.export(spans, (result) => {
  console.log(JSON.stringify({
    code: result.code,
    error: result.error && String(result.error),
    ids: spans.map((span) => [span.spanContext().traceId, span.spanContext().spanId, nanoseconds(span.endTime)]),
  }));
  exporter.shutdown().then(() => process.exit(0));
});
