/**
 * Shapes of JSON, mainly for settings. A shape describes the allowed values. It provides both the check, whose message names
 * the value that does not fit, and the type.
 *
 *     export const settings = object({ currency: text, minimum: number.or(1), lists: map(text).or({}) });
 *     type Settings = Infer<typeof settings>;
 */

/** The shape of one value. `read` returns the value or throws an error that names it. */
export class Field<T> {
  constructor(
    readonly read: (given: unknown, place: string) => T,
    /** Makes the default value. Without it, the value is required. */
    readonly fallback?: () => T,
    /** The names of an object's members. */
    readonly members?: readonly string[],
  ) {}

  /** Adds a default value. */
  or(value: T): Field<T> {
    return new Field(this.read, () => value, this.members);
  }

  /** Adds a check, which returns a message if the value is wrong, and nothing otherwise. */
  check(wrong: (value: T) => string | null | undefined | void): Field<T> {
    const read = (given: unknown, place: string) => {
      const value = this.read(given, place);
      const why = wrong(value);
      if (why) throw new Error(place ? `${place}: ${why}` : why);
      return value;
    };
    return new Field(read, this.fallback, this.members);
  }
}

/** The TypeScript type of a shape. */
export type Infer<F> = F extends Field<infer T> ? T : never;

const shown = (given: unknown) => (typeof given === "bigint" ? String(given) : JSON.stringify(given).slice(0, 200));

const is = (what: string, fits: (given: unknown) => boolean) => (given: unknown, place: string) => {
  if (fits(given)) return given as any;
  throw new Error(`${place || "it"} should be ${what}, but ${given === undefined ? "is missing" : `is ${shown(given)}`}`);
};

/** Text. */
export const text = new Field<string>(is("text", (given) => typeof given === "string"));
/** A number. */
export const number = new Field<number>(is("a number", (given) => typeof given === "number"));
/** True or false. */
export const boolean = new Field<boolean>(is("true or false", (given) => typeof given === "boolean"));

/** One of these texts. */
export function choice<const T extends string>(...values: T[]): Field<T> {
  return new Field<T>(is(values.map((value) => `"${value}"`).join(" or "), (given) => values.includes(given as T)));
}

/** A list. */
export function list<T>(item: Field<T>): Field<T[]> {
  const array = is("a list", Array.isArray);
  return new Field((given, place) => array(given, place).map((each: unknown, n: number) => item.read(each, `${place}[${n}]`)));
}

/** An object that maps any name to a value. */
export function map<T>(value: Field<T>): Field<Record<string, T>> {
  return new Field((given, place) => {
    const entries = Object.entries(record(given, place));
    return Object.fromEntries(entries.map(([name, each]) => [name, value.read(each, `${place}.${name}`)]));
  });
}

/** A value that can be missing or null. */
export function optional<T>(value: Field<T>): Field<T | undefined> {
  return new Field<T | undefined>((given, place) => (given === undefined || given === null ? undefined : value.read(given, place)), () => undefined);
}

/** An object with these members; others are ignored. */
export function object<F extends Record<string, Field<any>>>(fields: F): Field<{ [K in keyof F]: Infer<F[K]> }> {
  const read = (given: unknown, place: string) => {
    const members = record(given, place);
    const value = ([name, field]: [string, Field<unknown>]) => {
      const missing = members[name] === undefined && field.fallback;
      return [name, missing ? missing() : field.read(members[name], place ? `${place}.${name}` : name)];
    };
    return Object.fromEntries(Object.entries(fields).map(value)) as any;
  };
  return new Field(read, undefined, Object.keys(fields));
}

const record = is("an object", (given) => typeof given === "object" && given !== null && !Array.isArray(given));
