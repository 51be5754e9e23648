/** Lines for the operator. A batch can write 64 KiB by default; the rest is dropped. */

declare global {
  /** Writes to the log, as `log` does. */
  interface Console {
    debug(...message: unknown[]): void;
    error(...message: unknown[]): void;
    info(...message: unknown[]): void;
    log(...message: unknown[]): void;
    trace(...message: unknown[]): void;
    warn(...message: unknown[]): void;
  }
  var console: Console;
}

type Level = "debug" | "info" | "warn" | "error";
type Sink = (level: Level, message: string) => void;

// In Weir the guest attaches the host's function. In a test outside of Weir the lines are dropped.
let sink: Sink = () => {};

export const log = {
  debug: (...message: unknown[]) => sink("debug", line(message)),
  info: (...message: unknown[]) => sink("info", line(message)),
  warn: (...message: unknown[]) => sink("warn", line(message)),
  error: (...message: unknown[]) => sink("error", line(message)),
};

/** Sets the function that receives all further lines. */
export function attach(to: Sink): void {
  sink = to;
}

function line(parts: unknown[]): string {
  return parts.map((part) => (typeof part === "object" && part !== null ? shown(part) : String(part))).join(" ");
}

function shown(part: object): string {
  if (part instanceof Error) return String(part);
  try {
    return JSON.stringify(part, (_, value) => (typeof value === "bigint" ? String(value) : value instanceof Map || value instanceof Set ? [...value] : value));
  } catch {
    return String(part);
  }
}
