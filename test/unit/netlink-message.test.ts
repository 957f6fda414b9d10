// The netlink codec against bytes derived from the UAPI headers by hand, and against anything at all.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { IFLA, IFLA_INFO, IFLA_TUN, NLM_F, NLMSG, RTM, RTNL_LINK_STATS64 } from '../../lib/abi/rtnetlink.ts'
import { InvalidOptionError, SystemCallError } from '../../lib/errors.ts'
import {
  NetlinkAttributes,
  type NetlinkMessage,
  NetlinkWriter,
  parseMessages,
  parseOutcome,
  parsePayload,
} from '../../lib/host/netlink-message.ts'
import {
  addAddressRequest,
  decodeAddress,
  deleteAddressRequest,
  listAddressesRequest,
} from '../../lib/host/rtnetlink-address.ts'
import {
  addLinkRequest,
  decodeLink,
  deleteLinkRequest,
  getLinkRequest,
  listLinksRequest,
  setLinkRequest,
} from '../../lib/host/rtnetlink-link.ts'
import { addNeighbourRequest } from '../../lib/host/rtnetlink-neighbour.ts'
import { encodeRequest, type RtnetlinkRequest } from '../../lib/host/rtnetlink-request.ts'

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ''), 'hex'))
}

function assertBytes(actual: Uint8Array, hex: string): void {
  assert.equal(Buffer.from(actual).toString('hex'), hex.replaceAll(/\s/g, ''))
}

function assertRequest(request: RtnetlinkRequest, sequence: number, hex: string): void {
  assertBytes(encodeRequest(request, sequence), hex)
}

function isMalformed(error: unknown): boolean {
  return error instanceof SystemCallError && error.code === 'EBADMSG' && error.errno < 0
}

function message(payload: Uint8Array, header: Partial<NetlinkMessage> = {}): NetlinkMessage {
  return { type: RTM.RTM_NEWLINK, flags: 0, sequence: 0, payload, ...header }
}

/** What a writer wrote, without the message's header. */
function bodyOf(writer: NetlinkWriter): Uint8Array {
  return writer.finish({ type: 0, flags: 0, sequence: 0 }).slice(16)
}

describe('rtnetlink requests', () => {
  it('RTM_SETLINK that switches a link on', () => {
    assertRequest(
      setLinkRequest(5, { up: true }),
      7,
      `20000000 1300 0500 07000000 00000000
       00 00 0000 05000000 01000000 01000000`,
    )
  })

  it('RTM_SETLINK that switches a link off changes IFF_UP and no other flag', () => {
    assertRequest(
      setLinkRequest(5, { up: false }),
      8,
      `20000000 1300 0500 08000000 00000000
       00 00 0000 05000000 00000000 01000000`,
    )
  })

  it('RTM_SETLINK of everything else leaves the flags alone', () => {
    assertRequest(
      setLinkRequest(258, {
        ifname: 'net1',
        mac: '52:54:00:12:34:Ff',
        mtu: 9000,
        master: null,
        txqlen: 500,
        netns: { fd: 9 },
      }),
      0xffffffff,
      `58000000 1300 0500 ffffffff 00000000
       00 00 0000 02010000 00000000 00000000
       0900 0300 6e65743100 000000
       0a00 0100 5254001234ff 0000
       0800 0400 28230000
       0800 0a00 00000000
       0800 0d00 f4010000
       0800 1c00 09000000`,
    )
  })

  it('RTM_SETLINK into the namespace of a process', () => {
    assertRequest(
      setLinkRequest(5, { netns: { pid: 4242 } }),
      1,
      `28000000 1300 0500 01000000 00000000
       00 00 0000 05000000 00000000 00000000
       0800 1300 92100000`,
    )
  })

  it('RTM_NEWLINK of a bridge, with IFLA_LINKINFO nested', () => {
    assertRequest(
      addLinkRequest({ kind: 'bridge', ifname: 'br0' }),
      1,
      `3c000000 1000 0506 01000000 00000000
       00 00 0000 00000000 00000000 00000000
       0800 0300 62723000
       1400 1280
         0b00 0100 62726964676500 00
         0400 0280`,
    )
  })

  it('RTM_NEWLINK of a veth, whose peer is a link in the link', () => {
    assertRequest(
      addLinkRequest({ kind: 'veth', ifname: 'v0', peer: 'v1', mtu: 1400 }),
      1,
      `60000000 1000 0506 01000000 00000000
       00 00 0000 00000000 00000000 00000000
       0700 0300 763000 00
       0800 0400 78050000
       3000 1280
         0900 0100 7665746800 000000
         2000 0280
           1c00 0180
             00 00 0000 00000000 00000000 00000000
             0700 0300 763100 00`,
    )
  })

  it('RTM_DELLINK', () => {
    assertRequest(deleteLinkRequest(5), 2, '20000000 1100 0500 02000000 00000000 00000000 05000000 00000000 00000000')
  })

  it('RTM_GETLINK by index, by name, and of all', () => {
    assertRequest(
      getLinkRequest({ index: 5 }),
      1,
      '20000000 1200 0500 01000000 00000000 00000000 05000000 00000000 00000000',
    )
    assertRequest(
      getLinkRequest({ ifname: 'lo' }),
      1,
      '28000000 1200 0500 01000000 00000000 00000000 00000000 00000000 00000000 0700 0300 6c6f00 00',
    )
    assertRequest(listLinksRequest(), 1, '20000000 1200 0103 01000000 00000000 00000000 00000000 00000000 00000000')
  })

  it('RTM_NEWADDR of IPv4', () => {
    assertRequest(
      addAddressRequest(3, { address: '10.0.0.1', prefixLength: 24, broadcast: '10.0.0.255' }),
      2,
      `30000000 1400 0506 02000000 00000000
       02 18 00 00 03000000
       0800 0200 0a000001
       0800 0100 0a000001
       0800 0400 0a0000ff`,
    )
  })

  it('RTM_NEWADDR of IPv6, with flags that ifa_flags has no room for', () => {
    assertRequest(
      addAddressRequest(3, { address: 'fd00::1', prefixLength: 64, nodad: true, noprefixroute: true }),
      2,
      `48000000 1400 0506 02000000 00000000
       0a 40 00 00 03000000
       1400 0200 fd000000000000000000000000000001
       1400 0100 fd000000000000000000000000000001
       0800 0800 02020000`,
    )
  })

  it('RTM_DELADDR of a point-to-point address names the peer in IFA_ADDRESS', () => {
    assertRequest(
      deleteAddressRequest(3, { address: '10.0.0.1', peer: '10.9.9.9', prefixLength: 32 }),
      2,
      `28000000 1500 0500 02000000 00000000
       02 20 00 00 03000000
       0800 0200 0a000001
       0800 0100 0a090909`,
    )
  })

  it('RTM_GETADDR of all', () => {
    assertRequest(listAddressesRequest(), 1, '18000000 1600 0103 01000000 00000000 00 00 00 00 00000000')
  })

  it('RTM_NEWNEIGH', () => {
    assertRequest(
      addNeighbourRequest(3, { address: '10.0.0.2', mac: '52:54:00:00:00:02' }),
      4,
      `30000000 1c00 0506 04000000 00000000
       02 00 0000 03000000 8000 00 00
       0800 0100 0a000002
       0a00 0200 525400000002 0000`,
    )
  })

  it('are refused before they are sent where an option is wrong, by its name', () => {
    const wrong: [option: string, code: string, make: () => unknown][] = [
      ['index', 'ERR_OPTION_RANGE', () => setLinkRequest(0, {})],
      ['index', 'ERR_OPTION_RANGE', () => deleteLinkRequest(2 ** 31)],
      ['index', 'ERR_OPTION_RANGE', () => getLinkRequest({ index: 1.5 })],
      ['index', 'ERR_OPTION_TYPE', () => getLinkRequest({ index: '1' as unknown as number })],
      ['ifname', 'ERR_OPTION_RANGE', () => getLinkRequest({ ifname: 'sixteen-bytes-xx' })],
      ['peer', 'ERR_OPTION_RANGE', () => addLinkRequest({ kind: 'veth', ifname: 'a', peer: 'b/c' })],
      ['up', 'ERR_OPTION_TYPE', () => setLinkRequest(1, { up: 1 as unknown as boolean })],
      ['mtu', 'ERR_OPTION_RANGE', () => setLinkRequest(1, { mtu: 67 })],
      ['mtu', 'ERR_OPTION_RANGE', () => addLinkRequest({ kind: 'bridge', ifname: 'b', mtu: 65536 })],
      ['mtu', 'ERR_OPTION_RANGE', () => setLinkRequest(1, { mtu: Number.NaN })],
      ['mac', 'ERR_OPTION_RANGE', () => setLinkRequest(1, { mac: '52-54-00-12-34-56' })],
      ['master', 'ERR_OPTION_RANGE', () => setLinkRequest(1, { master: 0 })],
      ['txqlen', 'ERR_OPTION_RANGE', () => setLinkRequest(1, { txqlen: -1 })],
      ['netns.fd', 'ERR_OPTION_RANGE', () => setLinkRequest(1, { netns: { fd: -1 } })],
      ['netns.pid', 'ERR_OPTION_RANGE', () => setLinkRequest(1, { netns: { pid: 0 } })],
      ['address', 'ERR_OPTION_RANGE', () => addAddressRequest(1, { address: 'fe80::1%lo', prefixLength: 64 })],
      ['prefixLength', 'ERR_OPTION_RANGE', () => addAddressRequest(1, { address: '10.0.0.1', prefixLength: 33 })],
      ['prefixLength', 'ERR_OPTION_RANGE', () => addAddressRequest(1, { address: '::1', prefixLength: 129 })],
      [
        'peer',
        'ERR_OPTION_CONFLICT',
        () => deleteAddressRequest(1, { address: '::1', prefixLength: 1, peer: '1.2.3.4' }),
      ],
      [
        'broadcast',
        'ERR_OPTION_CONFLICT',
        () => addAddressRequest(1, { address: '::1', prefixLength: 1, broadcast: '::2' }),
      ],
      [
        'state',
        'ERR_OPTION_RANGE',
        () => addNeighbourRequest(1, { address: '::1', mac: '52:54:00:00:00:02', state: 'toString' as 'stale' }),
      ],
    ]
    for (const [option, code, make] of wrong) {
      assert.throws(make, (error) => {
        assert.ok(error instanceof InvalidOptionError)
        assert.deepEqual({ option: error.option, code: error.code }, { option, code })
        return true
      })
    }
  })
})

describe('NetlinkWriter and NetlinkAttributes', () => {
  const attributes = fc.uniqueArray(
    fc.record({ type: fc.integer({ min: 0, max: 0x3fff }), value: fc.uint8Array({ maxLength: 600 }) }),
    { selector: ({ type }) => type, maxLength: 12 },
  )

  it('read what was written, in nests of any depth', () => {
    fc.assert(
      fc.property(attributes, fc.integer({ min: 0, max: 5 }), (written, depth) => {
        const writer = new NetlinkWriter()
        const write = (left: number): void => {
          if (left > 0) writer.nest(1, () => write(left - 1))
          else for (const { type, value } of written) writer.attribute(type, value)
        }
        write(depth)
        let read = NetlinkAttributes.parse(bodyOf(writer))
        for (let level = 0; level < depth; level++) read = read.nested(1)!
        assert.deepEqual(
          read.types,
          written.map(({ type }) => type),
        )
        for (const { type, value } of written) assert.deepEqual(read.bytes(type), value)
      }),
    )
  })

  it('read numbers and text as they were written', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 255 }),
        fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0')),
        (u8, u32, text) => {
          const read = NetlinkAttributes.parse(bodyOf(new NetlinkWriter().u8(1, u8).u32(2, u32).string(3, text)))
          assert.deepEqual([read.u8(1), read.u32(2), read.string(3)], [u8, u32, text])
        },
      ),
    )
  })

  it('say undefined for an attribute that is not there', () => {
    const none = NetlinkAttributes.parse(new Uint8Array())
    assert.deepEqual(
      [none.has(1), none.bytes(1), none.u8(1), none.u32(1), none.u64s(1, 2), none.string(1), none.nested(1)],
      [false, undefined, undefined, undefined, undefined, undefined, undefined],
    )
  })

  it('take the later of two attributes of one type, and the flag bits off the type', () => {
    const read = NetlinkAttributes.parse(bytes('0500 0100 aa 000000 0500 01c0 bb 000000'))
    assert.deepEqual([read.types, read.u8(1)], [[1], 0xbb])
  })

  it('take a last attribute without its padding', () => {
    assert.equal(NetlinkAttributes.parse(bytes('0500 0100 aa')).u8(1), 0xaa)
  })

  it('refuse a value that is shorter than its type', () => {
    const read = NetlinkAttributes.parse(bytes('0400 0100 0700 0200 010203 00'))
    for (const reader of [() => read.u8(1), () => read.u32(2), () => read.u64s(2, 1)]) {
      assert.throws(reader, isMalformed)
    }
  })

  it('refuse impossible lengths', () => {
    for (const hex of [
      '04',
      '0400 00',
      '0000 0100',
      '0300 0100',
      '0500 0100',
      'ffff 0100 00000000',
      '0400 0100 0400',
    ]) {
      assert.throws(() => NetlinkAttributes.parse(bytes(hex)), isMalformed, hex)
    }
  })

  it('write attributes up to 65535 bytes and refuse longer ones', () => {
    assert.equal(bodyOf(new NetlinkWriter().attribute(1, new Uint8Array(65531))).length, 65536)
    assert.throws(() => new NetlinkWriter().attribute(1, new Uint8Array(65532)), RangeError)
    const long = new Uint8Array(40000)
    assert.throws(() => new NetlinkWriter().nest(1, (inner) => inner.attribute(1, long).attribute(2, long)), RangeError)
  })
})

describe('parseMessages', () => {
  it('splits a datagram, whose last message may lack its padding', () => {
    const datagram = bytes(`11000000 1000 0200 01000000 00000000 aa 000000
                            12000000 0300 0000 02000000 99000000 bbcc`)
    assert.deepEqual(parseMessages(datagram), [
      { type: 16, flags: 2, sequence: 1, payload: bytes('aa') },
      { type: 3, flags: 0, sequence: 2, payload: bytes('bbcc') },
    ])
  })

  it('refuses impossible lengths', () => {
    for (const length of [0, 1, 15, 17, 20, 0x7fffffff, 0x80000000, 0xffffffff]) {
      const datagram = new Uint8Array(16)
      new DataView(datagram.buffer).setUint32(0, length, true)
      assert.throws(() => parseMessages(datagram), isMalformed, `length ${length}`)
    }
    assert.throws(() => parseMessages(new Uint8Array(15)), isMalformed)
  })

  it('reads any prefix of a datagram as its whole messages, or refuses it', () => {
    const one = encodeRequest(addLinkRequest({ kind: 'veth', ifname: 'v0', peer: 'v1' }), 1)
    const datagram = Uint8Array.from([...one, ...one])
    for (let length = 0; length <= datagram.length; length++) {
      const prefix = datagram.subarray(0, length)
      if (length % one.length === 0) assert.equal(parseMessages(prefix).length, length / one.length)
      else assert.throws(() => parseMessages(prefix), isMalformed)
    }
  })
})

describe('parseOutcome', () => {
  const error = (payload: string, flags = 0): NetlinkMessage =>
    message(bytes(payload), { type: NLMSG.NLMSG_ERROR, flags })

  it('is undefined for a message that ends nothing', () => {
    assert.equal(parseOutcome(message(bytes('00000000'))), undefined)
  })

  it('reads an acknowledgement', () => {
    const ack = error('00000000 20000000 1300 0500 07000000 00000000', NLM_F.NLM_F_CAPPED)
    assert.deepEqual(parseOutcome(ack), { errno: 0, text: undefined })
  })

  it('reads the errno, and the text behind the repeated request', () => {
    const refusal = error(
      `eaffffff 11000000 1300 0500 07000000 00000000 aa 000000
       0700 0100 6e6f00 00`,
      NLM_F.NLM_F_ACK_TLVS,
    )
    assert.deepEqual(parseOutcome(refusal), { errno: -22, text: 'no' })
  })

  it('reads the text behind the header alone where the request is capped', () => {
    const refusal = error(
      'efffffff ff000000 1300 0500 07000000 00000000 0700 0100 6e6f00 00',
      NLM_F.NLM_F_ACK_TLVS | NLM_F.NLM_F_CAPPED,
    )
    assert.deepEqual(parseOutcome(refusal), { errno: -17, text: 'no' })
  })

  it('reads the end of a dump, good or bad', () => {
    const done = (payload: string, flags = 0): NetlinkMessage =>
      message(bytes(payload), { type: NLMSG.NLMSG_DONE, flags })
    assert.deepEqual(parseOutcome(done('00000000')), { errno: 0, text: undefined })
    assert.deepEqual(parseOutcome(done('eaffffff 0700 0100 6e6f00 00', NLM_F.NLM_F_ACK_TLVS)), {
      errno: -22,
      text: 'no',
    })
  })

  it('refuses what is too short', () => {
    const tlvs = NLM_F.NLM_F_ACK_TLVS
    assert.throws(() => parseOutcome(error('000000')), isMalformed)
    assert.throws(() => parseOutcome(error('00000000 20000000', tlvs)), isMalformed)
    assert.throws(() => parseOutcome(error('00000000 20000000 1300 0500 07000000 00000000', tlvs)), isMalformed)
    assert.throws(() => parseOutcome(error('00000000 00000000 1300 0500 07000000 00000000', tlvs)), isMalformed)
  })
})

describe('decodeLink', () => {
  const fixed = '00 00 0100 07000000 43100100 00000000'

  function tapBody(): NetlinkWriter {
    const stats = new Uint8Array(8 * (RTNL_LINK_STATS64.length + 1))
    const view = new DataView(stats.buffer)
    RTNL_LINK_STATS64.forEach((_, index) => {
      view.setBigUint64(8 * index, BigInt(index) + 2n ** 40n, true)
    })
    return new NetlinkWriter()
      .struct(bytes(fixed))
      .string(IFLA.IFLA_IFNAME, 'vnet0')
      .u8(IFLA.IFLA_OPERSTATE, 6)
      .u32(IFLA.IFLA_MTU, 1500)
      .u32(IFLA.IFLA_TXQLEN, 1000)
      .u32(IFLA.IFLA_PROMISCUITY, 1)
      .u32(IFLA.IFLA_MASTER, 4)
      .attribute(IFLA.IFLA_ADDRESS, bytes('525400123456'))
      .attribute(IFLA.IFLA_STATS64, stats)
      .nest(IFLA.IFLA_LINKINFO, (info) =>
        info
          .string(IFLA_INFO.IFLA_INFO_KIND, 'tun')
          .nest(IFLA_INFO.IFLA_INFO_DATA, (data) =>
            data
              .u8(IFLA_TUN.IFLA_TUN_TYPE, 2)
              .u32(IFLA_TUN.IFLA_TUN_OWNER, 1000)
              .u8(IFLA_TUN.IFLA_TUN_PI, 0)
              .u8(IFLA_TUN.IFLA_TUN_VNET_HDR, 1)
              .u8(IFLA_TUN.IFLA_TUN_PERSIST, 1)
              .u8(IFLA_TUN.IFLA_TUN_MULTI_QUEUE, 1)
              .u32(IFLA_TUN.IFLA_TUN_NUM_QUEUES, 3)
              .u32(IFLA_TUN.IFLA_TUN_NUM_DISABLED_QUEUES, 1),
          ),
      )
  }

  it('reads a tap in a bridge', () => {
    const { stats, ...link } = decodeLink(message(bodyOf(tapBody())))!
    assert.deepEqual(link, {
      index: 7,
      ifname: 'vnet0',
      flags: 0x11043,
      up: true,
      running: true,
      lowerUp: true,
      operstate: 'up',
      mtu: 1500,
      mac: '52:54:00:12:34:56',
      master: 4,
      txqlen: 1000,
      promiscuity: 1,
      kind: 'tun',
      tun: {
        type: 'tap',
        pi: false,
        vnet_hdr: true,
        persist: true,
        multi_queue: true,
        numqueues: 3,
        numdisabled: 1,
        owner: 1000,
      },
    })
    assert.deepEqual(stats, Object.fromEntries(RTNL_LINK_STATS64.map((name, index) => [name, index + 2 ** 40])))
  })

  it('passes over news of a bridge port and of wireless', () => {
    assert.equal(decodeLink(message(bytes(fixed.replace('00', '07')))), undefined)
    assert.equal(decodeLink(message(bytes(`${fixed} 0400 0b00`))), undefined)
  })

  it('refuses a link without name, and one cut short anywhere', () => {
    assert.throws(() => decodeLink(message(bytes(fixed))), isMalformed)
    const body = bodyOf(tapBody())
    for (let length = 0; length < 16; length++) {
      assert.throws(() => decodeLink(message(body.subarray(0, length))), isMalformed)
    }
    for (let length = 16; length < body.length; length++) {
      try {
        decodeLink(message(body.subarray(0, length)))
      } catch (error) {
        assert.ok(isMalformed(error), String(error))
      }
    }
  })
})

describe('decodeAddress', () => {
  it('reads IPv4, whose IFA_ADDRESS is the peer where it differs from IFA_LOCAL', () => {
    const plain = bytes(`02 18 80 fd 03000000
      0800 0100 0a000001
      0800 0200 0a000001
      0800 0400 0a0000ff
      0800 0800 80020000`)
    assert.deepEqual(decodeAddress(message(plain)), {
      index: 3,
      family: 'ipv4',
      address: '10.0.0.1',
      prefixLength: 24,
      broadcast: '10.0.0.255',
      scope: 253,
      flags: 0x280,
      tentative: false,
      dadFailed: false,
    })
    const peered = decodeAddress(message(bytes('02 20 80 00 03000000 0800 0100 0a090909 0800 0200 0a000001')))
    assert.deepEqual([peered?.address, peered?.peer, peered?.flags], ['10.0.0.1', '10.9.9.9', 0x80])
  })

  it('reads IPv6, which has no IFA_LOCAL without a peer', () => {
    const tentative = bytes('0a 40 48 00 03000000 1400 0100 fd000000000000000000000000000001')
    assert.deepEqual(decodeAddress(message(tentative)), {
      index: 3,
      family: 'ipv6',
      address: 'fd00::1',
      prefixLength: 64,
      scope: 0,
      flags: 0x48,
      tentative: true,
      dadFailed: true,
    })
  })

  it('passes over other families, and refuses an address of the wrong length or none', () => {
    assert.equal(decodeAddress(message(bytes('1c 40 00 00 03000000'))), undefined)
    assert.throws(() => decodeAddress(message(bytes('0a 40 00 00 03000000 0800 0100 0a000001'))), isMalformed)
    assert.throws(() => decodeAddress(message(bytes('02 18 00 00 03000000'))), isMalformed)
    assert.throws(() => decodeAddress(message(bytes('02 18 00'))), isMalformed)
  })
})

describe('anything at all', () => {
  function readOrRefuse<T>(read: () => T): T | undefined {
    try {
      return read()
    } catch (error) {
      assert.ok(isMalformed(error), String(error))
      return undefined
    }
  }

  function readEverything(datagram: Uint8Array): void {
    const messages = readOrRefuse(() => parseMessages(datagram)) ?? []
    const total = messages.reduce((sum, { payload }) => sum + 16 + payload.length, 0)
    assert.ok(total <= datagram.length)
    for (const read of messages) {
      for (const decode of [parseOutcome, decodeLink, decodeAddress]) readOrRefuse(() => decode(read))
      readOrRefuse(() => parsePayload(read.payload, 12))
    }
  }

  it('is read or refused', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), readEverything), { numRuns: 2000 })
  })

  it('is read or refused with a sound header in front', () => {
    const anyMessage = fc.record({
      type: fc.constantFrom(NLMSG.NLMSG_ERROR, NLMSG.NLMSG_DONE, RTM.RTM_NEWLINK, RTM.RTM_NEWADDR),
      flags: fc.integer({ min: 0, max: 0xffff }),
      body: fc.uint8Array({ maxLength: 120 }),
    })
    fc.assert(
      fc.property(fc.array(anyMessage, { maxLength: 4 }), (messages) => {
        const datagrams = messages.map(({ type, flags, body }) =>
          new NetlinkWriter().struct(body).finish({ type, flags, sequence: 1 }),
        )
        readEverything(Uint8Array.from(datagrams.flatMap((datagram) => [...datagram])))
      }),
      { numRuns: 2000 },
    )
  })

  it('is read or refused where bytes of a sound message are changed', () => {
    const sound = encodeRequest(addLinkRequest({ kind: 'veth', ifname: 'v0', peer: 'v1', mtu: 1400 }), 1)
    const change = fc.tuple(fc.nat(sound.length - 1), fc.integer({ min: 0, max: 255 }))
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        const changed = sound.slice()
        for (const [at, value] of changes) changed[at] = value
        readEverything(changed)
      }),
      { numRuns: 2000 },
    )
  })
})
