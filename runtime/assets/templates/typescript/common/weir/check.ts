/** Lets the type checker compare the exports of `plugin.ts` with what Weir calls. Not part of the plugin. */
import * as plugin from "../plugin";
import type { Plugin } from "./guest";

plugin satisfies Plugin & Record<string, unknown>;
