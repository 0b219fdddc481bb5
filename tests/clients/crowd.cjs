// Many users at once, each with a request for a coupon: crowd.cjs CLIENT KEY FIRST LAST, where CLIENT is redis or ioredis.
// Prints how often each outcome was heard.
const { setTimeout: sleep } = require('node:timers/promises')

const [name, key, first, last] = process.argv.slice(2)

async function connect() {
  const url = process.env.REDIS_URL
  if (name === 'ioredis') {
    const { Redis } = require('ioredis')
    // As the page says for a user who may not call INFO.
    const client = new Redis(url, { enableReadyCheck: false })
    return { send: (...command) => client.call(...command), end: () => client.disconnect() }
  }
  const { createClient } = require('redis')
  const client = await createClient({ url }).on('error', console.error).connect()
  return { send: (...command) => client.sendCommand(command), end: () => client.destroy() }
}

async function main() {
  const client = await connect()
  const users = Array.from({ length: last - first }, (_, index) => Number(first) + index).sort(() => Math.random() - 0.5)
  const heard = {}
  async function one() {
    for (let user = users.pop(); user !== undefined; user = users.pop()) {
      await sleep(160 * Math.random())
      for (;;) {
        try {
          const outcome = await client.send('COUPON.REQUEST', key, String(user))
          heard[outcome] = (heard[outcome] ?? 0) + 1
          break
        } catch (error) {
          if (!error.message.startsWith('TRYAGAIN ')) throw error
          await sleep(100 + 400 * Math.random())
        }
      }
    }
  }
  await Promise.all(Array.from({ length: 8 }, one))
  console.log(Object.keys(heard).sort().map((outcome) => `${outcome}=${heard[outcome]}`).join(' '))
  client.end()
}

main()
