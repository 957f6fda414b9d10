// What `npm run conformance` makes of tables and titles; and that the tables of this project are in order.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { checkConformance, parseRows, type Row, tagsOf } from '../../scripts/conformance/check.ts'
import { conformanceTable } from '../../scripts/conformance/table.ts'

const row = (id: string, status: string, note = ''): Row => ({ id, status, note })

describe('conformance', () => {
  const check = (rows: Row[], titles: string[] = [], readme = '') => checkConformance(rows, titles, readme)
  const missing = (rows: Row[], titles: string[] = []) => check(rows, titles).chapters.flatMap((each) => each.missing)

  it('reads a table, in whose notes commas may be', () => {
    assert.deepEqual(parseRows('id,status,note\nBASE-A-01,tested,\nNET-B-D02,n/a,a, b\n'), [
      row('BASE-A-01', 'tested'),
      row('NET-B-D02', 'n/a', 'a, b'),
    ])
  })

  it('finds ids and feature bits in titles, several in one', () => {
    const titles = ['a suite [BASE-CTRL-RX-01] [MMIO-D02] does', '[VIRTIO_F_SUSPEND] is [0, 1] not [there]']
    assert.deepEqual([...tagsOf(titles)], ['BASE-CTRL-RX-01', 'MMIO-D02', 'VIRTIO_F_SUSPEND'])
  })

  it('counts a rule as tested where a test has its id, and misses it where none has', () => {
    const rows = [row('RING-A-01', 'tested'), row('RING-A-02', 'tested'), row('RING-A-03', 'open')]
    assert.deepEqual(missing(rows, ['[RING-A-01] x']), ['RING-A-02', 'RING-A-03'])
    const ring = check(rows, ['[RING-A-01] x']).chapters.find(({ name }) => name === 'RING')!
    assert.deepEqual([ring.rows, ring.counts.tested], [3, 1])
  })

  it('counts a rule as not offered where a test has its feature bit', () => {
    const rows = [
      row('NET-A-01', 'not-offered', 'VIRTIO_NET_F_RSS: why'),
      row('PCI-A-01', 'not-offered', 'VIRTIO_F_SUSPEND'),
    ]
    assert.deepEqual(missing(rows, ['[VIRTIO_NET_F_RSS] is not offered']), ['PCI-A-01'])
  })

  it('takes the other reasons as they are', () => {
    const rows = ['n/a', 'deviation'].map((status, i) => row(`NET-A-0${i}`, status, 'why'))
    assert.deepEqual(missing(rows), [])
  })

  const contradictions: readonly [what: string, rows: Row[], title: string, problem: string][] = [
    ['a title with an unknown id', [], '[MMIO-D99] x', "MMIO-D99: is in a test's title, and there is no such rule"],
    [
      'a title with an unknown bit',
      [],
      '[VIRTIO_F_X] x',
      "VIRTIO_F_X: is in a test's title, and there is no such rule",
    ],
    [
      'a test of a rule that is called otherwise',
      [row('NET-A-01', 'open')],
      '[NET-A-01] x',
      "NET-A-01: is 'open', and a test has it in its title",
    ],
    ['a rule that is there twice', [row('PCI-A-01', 'open'), row('PCI-A-01', 'open')], '', 'PCI-A-01: is there twice'],
    ['a status that there is not', [row('PCI-A-01', 'done')], '', "PCI-A-01: 'done' is no status"],
    ['a chapter that there is not', [row('CCW-A-01', 'open')], '', 'CCW-A-01: is of no chapter'],
    ['no reason', [row('PCI-A-01', 'n/a')], '', "PCI-A-01: is 'n/a' without a reason"],
    ['no feature bit', [row('NET-A-01', 'not-offered', 'RSS')], '', 'NET-A-01: names no feature bit'],
    [
      'a deviation that the README keeps quiet about',
      [row('NET-A-01', 'deviation', 'why')],
      '',
      'NET-A-01: deviates, and the README does not say so',
    ],
  ]
  for (const [what, rows, title, problem] of contradictions) {
    it(`objects to ${what}`, () => assert.deepEqual(check(rows, [title]).problems, [problem]))
  }

  it('is content with a deviation that the README has', () => {
    assert.deepEqual(check([row('NET-A-01', 'deviation', 'why')], [], 'Deviates from NET-A-01').problems, [])
  })

  it('tells each chapter in a line, then what is missing, within the width of the terminal', () => {
    const rows = Array.from({ length: 30 }, (_, i) => row(`BASE-A-${i + 10}`, 'open'))
    const lines = conformanceTable(check([...rows, row('NET-A-01', 'tested')], ['[NET-A-01] x']), 80)
    assert.ok(lines.every((line) => line.length <= 80))
    assert.match(lines[0]!, /^chapter rows tested .* missing$/)
    assert.match(lines[1]!, /^BASE +30 +0 .* 30$/)
    assert.match(lines[6]!, /^all +31 +1 .* 30$/)
    assert.deepEqual(lines.slice(7, 9), ['', 'BASE misses'])
    assert.equal(lines.slice(9).join(' ').trim().split(/ +/).length, 30)
  })

  it('tells of rules that are tested in what the kernel breaks them, within the width of the terminal', () => {
    const rows = [row('NET-A-01', 'tested'), row('NET-A-02', 'tested', 'Linux does otherwise '.repeat(6).trim())]
    const lines = conformanceTable(check(rows, ['[NET-A-01] [NET-A-02] x']), 80)
    assert.ok(lines.every((line) => line.length <= 80))
    assert.deepEqual(
      lines.slice(7).map((line) => line.split('Linux')[0]),
      ['', 'Tested, but the kernel breaks', '  NET-A-02: ', '    '],
    )
    assert.deepEqual(check(rows, ['[NET-A-01] [NET-A-02] x']).problems, [])
  })

  it('has tables here that are in order, each of its own chapter', () => {
    const folder = new URL('../../../test/conformance/', import.meta.url)
    const rows = readdirSync(folder).flatMap((name) => {
      const own = parseRows(readFileSync(new URL(name, folder), 'utf8'))
      assert.ok(own.every(({ id }) => id.startsWith(`${name.replace('.csv', '').toUpperCase()}-`)))
      return own
    })
    assert.equal(rows.length, 543)
    const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8')
    assert.deepEqual(checkConformance(rows, [], readme).problems, [])
  })
})
