// What is told where the database of Open vSwitch is not there, is none, breaks off or does not trust us; and that nothing is
// done twice where it breaks off amid a change. Needs root.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Tap } from '../../lib/host/index.ts'
import { Applied } from '../../lib/network/apply.ts'
import { listOvsPorts, planOvs } from '../../lib/network/ovs.ts'
import type { OvsdbTls } from '../../lib/network/ovsdb/options.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { TestSwitch } from '../support/ovs.ts'

const mac = '52:54:00:00:00:0a'

describe('the database of Open vSwitch', () => {
  const left = leavesNothing()
  let directory: string

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'db-'))
    left.add(() => rmSync(directory, { recursive: true }))
  })

  /** A server on a unix socket. @returns the database's name */
  async function serve(answer: (socket: net.Socket) => void): Promise<string> {
    const file = path.join(directory, 'db.sock')
    const sockets = new Set<net.Socket>()
    const server = net.createServer((socket) => {
      sockets.add(socket)
      socket.on('error', () => socket.destroy()).on('close', () => sockets.delete(socket))
      answer(socket)
    })
    server.listen(file)
    await once(server, 'listening')
    left.add(async () => {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    })
    return `unix:${file}`
  }

  const refused = (db: string, code: string, message: RegExp): Promise<void> =>
    assert.rejects(listOvsPorts({ db, timeoutMs: 2000 }), { name: 'OvsdbError', code, message })

  it('is not there', () => refused(`unix:${directory}/no`, 'ERR_OVSDB_UNREACHABLE', /ENOENT.*\n.*not running/))

  it('has nobody who listens any more', async () => {
    // What a killed server leaves.
    execFileSync('python3', ['-c', `import socket; socket.socket(socket.AF_UNIX).bind('${directory}/dead')`])
    await refused(`unix:${directory}/dead`, 'ERR_OVSDB_UNREACHABLE', /ECONNREFUSED.*\n.*Nothing listens/)
  })

  it('is not for this user', async () => {
    const db = await serve(() => assert.fail('nobody may connect'))
    chmodSync(directory, 0o755)
    chmodSync(db.slice('unix:'.length), 0o600)
    process.seteuid!(65_534)
    try {
      await refused(db, 'ERR_OVSDB_UNREACHABLE', /EACCES.*\n.*may not connect/)
    } finally {
      process.seteuid!(0)
    }
  })

  it('says something that is no JSON', async () => {
    await refused(await serve((socket) => socket.write('HTTP/1.1 400\r\n')), 'ERR_OVSDB_PROTOCOL', /"HTTP/)
  })

  it('says something that is nearly JSON', async () => {
    await refused(await serve((socket) => socket.write('{"id":0,}')), 'ERR_OVSDB_PROTOCOL', /no OVSDB/)
  })

  it('answers what nobody has asked', async () => {
    const db = await serve((socket) => socket.write('{"id":77,"result":[],"error":null}'))
    await refused(db, 'ERR_OVSDB_PROTOCOL', /answers none/)
  })

  it('answers with something of another form', async () => {
    const db = await serve((socket) => socket.write('{"id":0,"result":7,"error":null}'))
    await refused(db, 'ERR_OVSDB_PROTOCOL', /no object/)
  })

  it('ends amid a message', async () => {
    await refused(
      await serve((socket) => socket.end('{"id":0,"resu')),
      'ERR_OVSDB_PROTOCOL',
      /after 13 bytes of a message/,
    )
  })

  it('refuses the request', async () => {
    const db = await serve((socket) => socket.write('{"id":0,"result":null,"error":{"error":"unknown database"}}'))
    await refused(db, 'ERR_OVSDB_REFUSED', /refused monitor: unknown database/)
  })

  it('is silent', async () => {
    await refused(await serve(() => undefined), 'ERR_OVSDB_TIMEOUT', /not answered within 2000 ms/)
  })

  describe('of a real switch', () => {
    let ovs: TestSwitch

    before(async () => {
      ovs = await TestSwitch.start()
      await ovs.vsctl('add-br', 'br0')
    })
    after(() => ovs.close())

    const socketOf = ({ db }: TestSwitch): string => db.slice('unix:'.length)

    for (const [when, asked] of [
      ['before the server has got it', false],
      ['after that, before it is answered', true],
    ] as const) {
      it(`breaks off amid a change, ${when}: it is made once`, async () => {
        let broken = 0
        const db = await serve((client) => {
          const server = net.connect(socketOf(ovs)).on('error', () => client.destroy())
          client.on('close', () => server.destroy())
          server.on('close', () => client.destroy())
          let isBroken = false
          client.on('data', (bytes) => {
            isBroken = broken === 0 && bytes.includes('"transact"')
            if (isBroken) broken++
            if (isBroken && !asked) client.destroy()
            else server.write(bytes)
          })
          server.on('data', (bytes) => {
            if (isBroken) client.destroy()
            else client.write(bytes)
          })
        })
        const { ifname } = left.own(Tap.open({ ifname: 'vnp%d' }))
        const applied = await Applied.of(await planOvs({ ifname, mac }, { bridge: 'br0', db }))
        assert.equal(broken, 1)
        assert.equal(await ovs.vsctl('list-ports', 'br0'), ifname)
        assert.equal(
          (await ovs.vsctl('--bare', '--columns=name', 'find', 'Interface', `name=${ifname}`)).trim(),
          ifname,
        )
        assert.deepEqual((await applied.undo()).notUndone, [])
        assert.equal(await ovs.vsctl('list-ports', 'br0'), '')
      })
    }

    describe('over TLS', () => {
      let trusted: OvsdbTls
      let stranger: OvsdbTls
      const db = 'ssl:127.0.0.1:16640'

      /** A CA, and a certificate that it has signed. */
      function certify(name: string): OvsdbTls {
        const file = (ending: string): string => ovs.file(`${name}-${ending}.pem`)
        const openssl = (...args: string[]): void => {
          execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] })
        }
        const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
        openssl('req', '-x509', ...key, '-subj', `/CN=${name} CA`, '-keyout', file('cakey'), '-out', file('ca'))
        openssl(
          'req',
          ...key.slice(0, 4),
          '-nodes',
          '-subj',
          `/CN=${name}`,
          '-keyout',
          file('key'),
          '-out',
          file('req'),
        )
        const signing = ['-CA', file('ca'), '-CAkey', file('cakey'), '-CAcreateserial', '-days', '2']
        openssl('x509', '-req', '-in', file('req'), ...signing, '-out', file('cert'))
        return { privateKey: file('key'), certificate: file('cert'), caCert: file('ca') }
      }

      before(async () => {
        trusted = certify('ours')
        stranger = certify('theirs')
        await ovs.kill('ovsdb-server')
        rmSync(socketOf(ovs), { force: true })
        const { privateKey, certificate, caCert } = trusted
        await ovs.startServer(
          ...['--remote=pssl:16640:127.0.0.1', '--remote=ptcp:16641:127.0.0.1'],
          ...[`--private-key=${privateKey}`, `--certificate=${certificate}`, `--ca-cert=${caCert}`],
        )
      })

      it('and over TCP: the ports are there', async () => {
        for (const options of [{ db, tls: trusted }, { db: 'tcp:127.0.0.1:16641' }]) {
          const ports = await listOvsPorts(options)
          assert.deepEqual(
            ports.map(({ ifname }) => ifname),
            ['br0'],
          )
        }
      })

      it('is refused where one side does not trust the other', async () => {
        const wrong = { code: 'ERR_OVSDB_TLS', message: /\n.*certificate of the CA that the other one trusts/ }
        await assert.rejects(listOvsPorts({ db, tls: { ...trusted, caCert: stranger.caCert }, timeoutMs: 5000 }), wrong)
      })

      it('is refused where a file is not there, or is no key', async () => {
        const files = { ...trusted, privateKey: path.join(directory, 'no') }
        await assert.rejects(listOvsPorts({ db, tls: files }), {
          code: 'ERR_OVSDB_TLS',
          message: /private key cannot be/,
        })
        writeFileSync(files.privateKey, 'no key')
        await assert.rejects(listOvsPorts({ db, tls: files }), { code: 'ERR_OVSDB_TLS' })
      })
    })
  })
})
