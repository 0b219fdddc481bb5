"""Many users at once, each with a request for a coupon: crowd.py KEY FIRST LAST. Prints how often each outcome was heard."""

import os
import random
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from redis import Redis
from redis.exceptions import TryAgainError

key, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
coupons = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)


def ask(user):
    time.sleep(random.uniform(0, 0.16))
    while True:
        try:
            return coupons.execute_command("COUPON.REQUEST", key, user)
        except TryAgainError:
            time.sleep(random.uniform(0.1, 0.5))


users = list(range(first, last))
random.shuffle(users)
with ThreadPoolExecutor(8) as at_once:
    heard = Counter(at_once.map(ask, users))
print(*(f"{outcome}={heard[outcome]}" for outcome in sorted(heard)))
