/**
 * Replaces the clock and randomness, which a plugin does not have, because the same input must give the same output. During a
 * call they throw an exception. While the component is built they return constants, because packages often read them when
 * they are loaded. `console` writes to the log.
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
