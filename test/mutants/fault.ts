// What an entry of the list of faults says.

/** One line gone wrong, and the test that must notice. */
export interface Fault {
  /** What is wrong then, as a sentence. */
  readonly name: string
  /** From the package's root: TypeScript of lib, or C++ of native. */
  readonly file: string
  /** The line as it is, without its indentation. */
  readonly line: string
  readonly faulty: string
  /** The test's file, without `test/` and `.test.ts`: `'kernel/unwind'`. */
  readonly test: string
  /** The test's full title, those of its suites in front. */
  readonly title: string
  /** Where the test cannot end in a failure: its process does not end, or is ended by a signal. */
  readonly ends?: 'hangs' | 'crashes'
}
