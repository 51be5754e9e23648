// Returns everything that a plugin of a source receives, as `tests/conformance/README.md` defines.
import { Change, type Event, Failure } from "./weir";

export function eventFilter(event: Event): boolean {
  return event.attribute("drop") !== "true";
}

export function mapper(event: Event): Change[] {
  switch (event.type) {
    case "tell":
      return [change("event", tell(event))];
    case "echo":
      return [change("data", event.text())];
    case "numbers":
      return [change("bits", event.json<(number | bigint)[]>().map((number) => bits(Number(number))))];
    case "versions":
      return event.json<string[]>().map((version, index) => change(`n${index}`, index).version(BigInt(version)));
    case "lanes":
      return [
        ...(["urgent", "normal", "bulk"] as const).map((lane) => change("lane", null).lane(lane)),
        change("lane", null),
        Change.delete("echo", "echo", "lane"),
      ];
    case "many":
      return Array.from({ length: event.json<number>() }, (_, index) => change("n", index));
    case "fail": {
      const { code, message } = event.json<{ code: string; message: string }>();
      throw new Failure(code, message);
    }
    case "none":
      return [];
    default:
      throw new Failure("unknown-type", `no event is of the type ${event.type}`);
  }
}

function change(facet: string, value: unknown): Change {
  return Change.facet("echo", "echo", facet, value);
}

function tell(event: Event): unknown {
  const { id, origin, type, subject, time, contentType, attributes } = event;
  const bytes = event.bytes();
  const data = bytes ? { bytes: [...bytes] } : { text: event.text() };
  return { id, origin, type, subject, time, content_type: contentType, attributes, ...data };
}

function bits(number: number): string {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, number);
  return view.getBigUint64(0).toString(16).padStart(16, "0");
}
