-- A dead letter that an operator has given up. Its row stays: the chain runs through it.

alter table coupon_dead_letter add column discarded_at timestamptz;

comment on column coupon_dead_letter.discarded_at is
    'When an operator gave the grant up; null while it waits to be retried. The row stays, as the chain runs through it.';
