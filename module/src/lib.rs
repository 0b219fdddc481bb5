//! First-come-first-served coupons, decided inside Redis.
