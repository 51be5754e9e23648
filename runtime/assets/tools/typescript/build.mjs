// Builds one plugin for `weir plugin build`: checks its types, bundles it with its packages and compiles it to a component.
//
// The argument is a JSON object with `tools`, `folder`, `wit`, `out`, `salt` and `known`. The script prints one line of JSON
// to standard output: `{"digest"}` if it wrote a new component to `out`, `{"digest", "known": true}` if nothing changed since
// `known` was built, and otherwise `{"wrong"}` with a message. The compilers' output goes to standard error unchanged.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { createRequire, SourceMap } from "node:module";
import { join } from "node:path";

const given = JSON.parse(process.argv[2]);
const require = createRequire(join(given.tools, "package.json"));
const esbuild = require("esbuild");

/** The world for each set of roles that `plugin.ts` can export. */
const WORLDS = {
  eventFilter: "event-filter-plugin",
  mapper: "mapper-plugin",
  "eventFilter,mapper": "source-plugin",
  entityFilter: "entity-filter-plugin",
  renderer: "renderer-plugin",
  "entityFilter,renderer": "channel-plugin",
};
const ROLES = ["eventFilter", "mapper", "entityFilter", "renderer"];
const REFUSED = { refused: true };

const bundled = {
  absWorkingDir: given.folder,
  bundle: true,
  charset: "utf8",
  conditions: ["import", "default"],
  external: ["weir:*"],
  format: "esm",
  legalComments: "none",
  logLevel: "error",
  mainFields: ["module", "main"],
  metafile: true,
  outfile: "plugin.js",
  platform: "neutral",
  sourcemap: "external",
  sourcesContent: false,
  target: "es2022",
  write: false,
};

async function main() {
  const types = checkTypes();
  // Type errors are reported first, even if the bundle fails too.
  const [typed, bundle] = await Promise.allSettled([types, makeBundle()]);
  for (const outcome of [typed, bundle]) if (outcome.status === "rejected") throw outcome.reason;
  const { source, world } = bundle.value;
  const digest = createHash("sha256").update(JSON.stringify([given.salt, world, source])).digest("hex");
  if (digest === given.known) return { digest, known: true };
  const { componentize } = require("componentize-qjs");
  let made;
  try {
    made = await componentize({ witPath: given.wit, jsSource: source, world, stubWasi: true, sync: true });
  } catch (error) {
    return { wrong: `plugin.ts cannot be loaded outside of Node: ${String(error?.message ?? error).trim()}` };
  }
  writeFileSync(given.out, made.component);
  return { digest };
}

/** Runs the type checker, which prints its own messages. */
function checkTypes() {
  if (!existsSync(join(given.folder, "tsconfig.json"))) return Promise.resolve();
  const compiler = join(require.resolve("typescript/package.json"), "../bin/tsc");
  const colours = process.stderr.isTTY ? ["--pretty"] : [];
  const child = spawn(process.execPath, [compiler, "--noEmit", "-p", given.folder, ...colours], { cwd: given.folder, stdio: ["ignore", 2, 2] });
  return new Promise((done, failed) => child.on("error", failed).on("exit", (code) => (code === 0 ? done() : failed(REFUSED))));
}

async function makeBundle() {
  const world = await worldOf();
  const entry = `
    import { write } from "weir:plugin/log@0.1.0";
    import "./weir/sandbox";
    import * as plugin from "./plugin";
    import { serve } from "./weir/guest";
    export const { settings, eventFilter, mapper, entityFilter, renderer } = serve(plugin, write);
  `;
  const built = await esbuild.build({ ...bundled, stdin: { contents: entry, resolveDir: given.folder, sourcefile: "entry.js" } }).catch(refuse);
  const [map, code] = ["plugin.js.map", "plugin.js"].map((name) => built.outputFiles.find((file) => file.path.endsWith(name)).text);
  const places = lines(code, JSON.parse(map));
  refuseLocales(code, places);
  return { world, source: `${code}\nglobalThis.weirLines = ${JSON.stringify(places)};\n` };
}

/** Refuses what the engine lacks although the language has it, in the author's own lines. Packages may ask whether it is there. */
function refuseLocales(code, places) {
  code.split("\n").forEach((text, line) => {
    const [found] = (places[line] && text.match(/\bIntl\.\w+|\.(toLocale(Date|Time)?String|localeCompare)(?=\()/)) || [];
    if (found) throw { wrong: `${places[line]}: ${found.replace(/^\./, "")}: a plugin has no locales and no time zones; write the format yourself, or compare with < and >` };
  });
}

/** Finds the world from the exports of `plugin.ts`. */
async function worldOf() {
  const alone = await esbuild.build({ ...bundled, entryPoints: ["plugin.ts"], sourcemap: false }).catch(refuse);
  const exported = Object.values(alone.metafile.outputs)[0].exports;
  const roles = ROLES.filter((role) => exported.includes(role));
  const world = WORLDS[roles.join()];
  if (world) return world;
  const found = roles.length > 0 ? `both ${roles.join(" and ")}: a plugin belongs to a source or to a channel` : "none of them";
  throw { wrong: `plugin.ts should export a function named ${ROLES.slice(0, 3).join(", ")} or ${ROLES[3]}, but exports ${found}` };
}

function refuse() {
  throw REFUSED;
}

/** The author's line for each line of the bundle, such as `plugin.ts:12`; empty for the kit and packages. */
function lines(code, map) {
  const known = new SourceMap(map);
  return code.split("\n").map((text, line) => {
    const { originalSource = "", originalLine } = known.findEntry(line, text.search(/\S|$/)) ?? {};
    const ours = originalSource && !/(^|\/)(weir|node_modules)\/|entry\.js$/.test(originalSource);
    return ours ? `${originalSource.split("/").pop()}:${originalLine + 1}` : "";
  });
}

try {
  console.log(JSON.stringify(await main()));
} catch (error) {
  if (error !== REFUSED && !error?.wrong) console.error(error);
  console.log(JSON.stringify({ wrong: error?.wrong ?? null }));
}
