// The stream of an OVSDB server, however it is cut: the messages come out whole, and what is none is refused.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { JsonSplitter } from '../../lib/network/ovsdb/splitter.ts'

const object = fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue())

/** Pieces of it, cut at those places. */
function pieces(bytes: Buffer, places: readonly number[]): Buffer[] {
  const cuts = [0, ...places.map((each) => each % (bytes.length + 1)), bytes.length].sort((a, b) => a - b)
  return cuts.slice(1).map((to, i) => bytes.subarray(cuts[i], to))
}

describe('the stream of an OVSDB server', () => {
  it('gives its messages, wherever it is cut', () => {
    fc.assert(
      fc.property(
        fc.array(object),
        fc.array(fc.nat()),
        fc.constantFrom('', ' ', '\n\n'),
        (messages, places, between) => {
          const texts = messages.map((each) => JSON.stringify(each))
          const splitter = new JsonSplitter()
          const found = pieces(Buffer.from(texts.join(between)), places).flatMap((piece) => splitter.push(piece))
          splitter.end()
          assert.deepEqual(
            found,
            texts.map((each) => JSON.parse(each)),
          )
        },
      ),
    )
  })

  it('is refused where it is none, and where it ends amid a message', () => {
    const refused = { name: 'OvsdbError', code: 'ERR_OVSDB_PROTOCOL' }
    for (const text of ['x', '[]', '{"a":}', '{}{}y', '{"\xff']) {
      assert.throws(() => {
        const splitter = new JsonSplitter()
        splitter.push(Buffer.from(text, 'latin1'))
        splitter.end()
      }, refused)
    }
    assert.throws(() => new JsonSplitter(8).push(Buffer.from('{"a":"too long"')), refused)
  })

  it('of any bytes is read or refused, and nothing else happens', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          new JsonSplitter().push(bytes)
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'ERR_OVSDB_PROTOCOL')
        }
      }),
    )
  })
})
