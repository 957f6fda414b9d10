// Compiles one changed file of the project as tsc would, types checked.

import path from 'node:path'
import ts from 'typescript'
import { projectRoot } from '../lab/project.ts'

const readProject = (): ts.ParsedCommandLine => {
  const file = path.join(projectRoot, 'tsconfig.json')
  const { config, error } = ts.readConfigFile(file, ts.sys.readFile)
  if (error !== undefined) throw new Error(ts.flattenDiagnosticMessageText(error.messageText, '\n'))
  return ts.parseJsonConfigFileContent(config, ts.sys, projectRoot)
}

/** Keeps what it knows of all other files, so that one takes a second and not ten. */
export class Compiler {
  readonly #service: ts.LanguageService
  #changed: { file: string; text: string; version: number } = { file: '', text: '', version: 0 }

  constructor() {
    const { fileNames, options } = readProject()
    const textOf = (file: string) => (file === this.#changed.file ? this.#changed.text : ts.sys.readFile(file))
    this.#service = ts.createLanguageService({
      getCompilationSettings: () => options,
      getScriptFileNames: () => fileNames,
      getScriptVersion: (file) => (file === this.#changed.file ? String(this.#changed.version) : '0'),
      getScriptSnapshot: (file) => {
        const text = textOf(file)
        return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text)
      },
      getCurrentDirectory: () => projectRoot,
      getDefaultLibFileName: ts.getDefaultLibFilePath,
      fileExists: ts.sys.fileExists,
      readFile: ts.sys.readFile,
      directoryExists: ts.sys.directoryExists,
      getDirectories: ts.sys.getDirectories,
    })
  }

  /**
   * The JavaScript of a file of the project, if this were its text.
   * @throws {Error} where tsc would refuse it: such a fault needs no test.
   */
  compile(file: string, text: string): string {
    const full = path.join(projectRoot, file)
    this.#changed = { file: full, text, version: this.#changed.version + 1 }
    const problems = [this.#service.getSyntacticDiagnostics(full), this.#service.getSemanticDiagnostics(full)].flat()
    const [problem] = problems
    if (problem !== undefined) {
      throw new Error(`tsc refuses it: ${ts.flattenDiagnosticMessageText(problem.messageText, ' ')}`)
    }
    const output = this.#service.getEmitOutput(full).outputFiles.find(({ name }) => name.endsWith('.js'))
    if (output === undefined) throw new Error(`tsc makes no JavaScript of ${file}`)
    return output.text
  }
}
