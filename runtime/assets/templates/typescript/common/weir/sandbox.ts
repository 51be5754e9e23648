/**
 * Replaces the clock, randomness and locales, which a plugin does not have, because the same input must give the same output
 * everywhere. During a call they throw an exception. While the component is built they return constants, because packages often
 * read them when they are loaded. `console` writes to the log.
 */
import { log } from "./log";

let awake = false;

/** Ends the build: from now on the replacements throw. */
export function wake(): void {
  awake = true;
}

function still<T>(value: T, what: string): T {
  if (!awake) return value;
  throw new Error(`${what}: a plugin has no clock and no randomness, because the same event must always give the same result; take what you need from the event`);
}

/** The engine has no locales and no time zones: without this, it would ignore them and format something else. */
function plainly(owner: any, names: string[], refused: (given: unknown[]) => boolean): void {
  for (const name of names) {
    const original = owner[name];
    owner[name] = function (...given: unknown[]) {
      if (!awake || !refused(given)) return original.apply(this, given);
      throw new Error(`${name}: a plugin has no locales and no time zones; write the format yourself, or compare with < and >`);
    };
  }
}

const Clock = Date;

function Clockless(this: unknown, ...given: [any]): Date | string {
  if (!new.target) return still("", "Date()");
  const known = given.length > 0 ? given : ([still(0, "new Date()")] as [any]);
  return Reflect.construct(Clock, known, new.target === Clockless ? Clock : new.target);
}
Clockless.prototype = Clock.prototype;
Clockless.parse = Clock.parse;
Clockless.UTC = Clock.UTC;
Clockless.now = () => still(0, "Date.now()");

const world = globalThis as unknown as Record<string, unknown>;
Clock.prototype.constructor = Clockless;
world.Date = Clockless;
Math.random = () => still(0.5, "Math.random()");
world.performance = { now: () => still(0, "performance.now()") };
world.console = { ...log, log: log.info, trace: log.debug };
plainly(Number.prototype, ["toLocaleString"], () => true);
plainly(BigInt.prototype, ["toLocaleString"], () => true);
plainly(Array.prototype, ["toLocaleString"], () => true);
plainly(Clock.prototype, ["toLocaleString", "toLocaleDateString", "toLocaleTimeString"], () => true);
plainly(String.prototype, ["localeCompare"], () => true);
plainly(String.prototype, ["toLocaleUpperCase", "toLocaleLowerCase"], ([locale]) => locale !== undefined);
