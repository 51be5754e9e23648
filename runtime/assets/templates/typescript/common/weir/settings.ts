/**
 * Shapes of JSON, for settings above all: a description of what may be there gives both the check, with a sentence that names what
 * does not fit, and the type.
 *
 *     export const settings = object({ currency: text, minimum: number.or(1), lists: map(text).or({}) });
 *     type Settings = Infer<typeof settings>;
 */

/** What one value may be. `read` gives the value or throws an error whose message is the sentence. */
export class Field<T> {
  constructor(
    readonly read: (given: unknown, place: string) => T,
    /** What it is where nothing is given; undefined: something must be given. */
    readonly fallback?: () => T,
    /** The members of an object. */
    readonly members?: readonly string[],
  ) {}

  /** With a value for where nothing is given. */
  or(value: T): Field<T> {
    return new Field(this.read, () => value, this.members);
  }

  /** With a check of one's own, which gives a sentence about what is wrong, or nothing. */
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

/** The type that a description stands for. */
export type Infer<F> = F extends Field<infer T> ? T : never;

const shown = (given: unknown) => (typeof given === "bigint" ? String(given) : JSON.stringify(given).slice(0, 200));

const is = (what: string, fits: (given: unknown) => boolean) => (given: unknown, place: string) => {
  if (fits(given)) return given as any;
  throw new Error(`${place || "it"} should be ${what}, and ${given === undefined ? "is missing" : `is ${shown(given)}`}`);
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
export function list<T>(of: Field<T>): Field<T[]> {
  const array = is("a list", Array.isArray);
  return new Field((given, place) => array(given, place).map((each: unknown, n: number) => of.read(each, `${place}[${n}]`)));
}

/** Names with a value each. */
export function map<T>(of: Field<T>): Field<Record<string, T>> {
  return new Field((given, place) => {
    const entries = Object.entries(record(given, place));
    return Object.fromEntries(entries.map(([name, each]) => [name, of.read(each, `${place}.${name}`)]));
  });
}

/** Something that may be left out, or null. */
export function optional<T>(of: Field<T>): Field<T | undefined> {
  return new Field<T | undefined>((given, place) => (given === undefined || given === null ? undefined : of.read(given, place)), () => undefined);
}

/** An object with these members; others are left alone. */
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
