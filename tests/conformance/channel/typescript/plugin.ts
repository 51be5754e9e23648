// Returns everything that a plugin of a channel receives, as `tests/conformance/README.md` defines.
import { type Entity, Failure, Rendering } from "./weir";

export function entityFilter(entity: Entity): boolean {
  return !entity.names.includes("drop");
}

export function renderer(entity: Entity): Rendering | null {
  if (entity.names.includes("none")) return null;
  const fail = entity.facet<{ code: string; message: string }>("fail");
  if (fail) throw new Failure(fail.code, fail.message);
  const bytes = entity.facet<number[]>("bytes");
  if (bytes) return Rendering.of("application/octet-stream", Uint8Array.from(bytes));
  const text = entity.facet<string>("text");
  if (text !== undefined) {
    const rendering = Rendering.of("text/plain", text);
    const key = entity.facet<string>("key");
    return key === undefined ? rendering : rendering.key(key);
  }
  const facets = entity.names.map((name) => [name, entity.raw(name)]);
  return Rendering.json({ type: entity.type, key: entity.key, facets });
}
