//! What has to be so for anything to work, in a sentence each for whoever has to set it right.

use super::Ledger;
use crate::error::Error;
use sqlx::{AssertSqlSafe, Executor};
use std::time::Duration;
use tokio::time::timeout;

/// What has to be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// A session stays with the server that it began with.
    Sessions,
    /// The database holds whatever Redis takes for a user's id.
    Encoding,
    /// The tables are those of this binary.
    Schema,
    /// The role may do what the daemon and the commands do.
    Privileges,
    /// The role sees every row.
    Rows,
}

/// A notification that has not come within this time does not come.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(3);

/// What the daemon and the commands do with each table.
const PRIVILEGES: [(&str, &str); 9] = [
    ("coupon", "select, insert, update"),
    ("coupon_position", "select, insert, update"),
    ("user_coupon", "select, insert"),
    ("coupon_dead_letter", "select, insert, update, delete"),
    ("coupon_orphan", "select, insert"),
    ("coupon_instance", "select, insert, update, delete"),
    ("coupon_lease", "select, update"),
    ("coupon_redis", "select, insert, update"),
    ("coupon_migration", "select"),
];

const MISSING: &str = "
    select format('grant %s on %s to this role', privilege, name)
    from unnest($1::text[], $2::text[]) as needed (name, privileges), string_to_table(privileges, ', ') as privilege
    where not has_table_privilege(name, privilege)";

/// Where row-level security applies to this role, and no policy lets it see all.
const HIDDEN: &str = "
    select name from unnest($1::text[]) as needed (name)
    where row_security_active(name) and not exists (
        select from pg_policy
        where polrelid = name::regclass and polpermissive and polcmd in ('r', '*')
          and pg_get_expr(polqual, polrelid) = 'true'
          and exists (select from unnest(polroles) as role where role = 0 or pg_has_role(role, 'usage')))";

impl Requirement {
    /// All, in the order in which they can be asked for.
    pub const ALL: [Self; 5] = [Self::Sessions, Self::Encoding, Self::Schema, Self::Privileges, Self::Rows];

    /// Those that no migration changes.
    pub const OF_SERVER: [Self; 2] = [Self::Sessions, Self::Encoding];

    /// That it is so.
    pub const fn met(self) -> &'static str {
        match self {
            Self::Sessions => "notifications arrive",
            Self::Encoding => "the encoding is UTF8",
            Self::Schema => "schema is current",
            Self::Privileges => "privileges are complete",
            Self::Rows => "no rows are hidden",
        }
    }
}

impl Ledger {
    /// Whether a requirement is met.
    ///
    /// # Errors
    /// [`Error::Held`] says what to do.
    pub async fn require(&self, requirement: Requirement) -> Result<(), Error> {
        let (tables, privileges): (Vec<&str>, Vec<&str>) = PRIVILEGES.into_iter().unzip();
        match requirement {
            Requirement::Sessions => match self.hears_itself().await? {
                true => Ok(()),
                false => Err(Error::Held(
                    "notifications do not arrive, as through a pooler in transaction mode; connect directly, or to one in \
                     session mode"
                        .into(),
                )),
            },
            Requirement::Encoding => match &*self.setting("server_encoding").await? {
                "UTF8" => Ok(()),
                encoding => Err(Error::Held(format!(
                    "the database's encoding is {encoding}, which cannot hold every user's id; create one with \
                     `encoding 'UTF8' template template0`"
                ))),
            },
            Requirement::Schema => self.check_schema().await,
            Requirement::Privileges => {
                let missing = self.fetch(sqlx::query_as(MISSING).bind(tables).bind(privileges)).await?;
                none(missing, "privileges are missing: ", "; ", "")
            }
            Requirement::Rows => {
                let hidden = self.fetch(sqlx::query_as(HIDDEN).bind(tables)).await?;
                none(hidden, "row-level security hides rows of ", ", ", "; alter this role to bypassrls, or add a policy using (true)")
            }
        }
    }

    /// Whether one session hears what another one says; true where there is no room for another one. All of it is said without prepared
    /// statements: a session without a server of its own may lose these.
    async fn hears_itself(&self) -> Result<bool, Error> {
        let channel = format!("coupon_{:016x}", fastrand::u64(..));
        let mut listener = match self.listen_to(&channel).await {
            Err(Error::Crowded) => return Ok(true),
            listener => listener?,
        };
        let mut connection = self.connection().await?;
        let notify = AssertSqlSafe(format!("notify {channel}"));
        let heard = async {
            connection.execute(notify).await?;
            listener.try_recv().await
        };
        let is_heard = matches!(timeout(NOTIFY_TIMEOUT, heard).await, Ok(Ok(Some(_))));
        if !is_heard {
            drop(connection.detach());
        }
        Ok(is_heard)
    }
}

/// What was found has to be nothing.
fn none(found: Vec<(String,)>, before: &str, between: &str, behind: &str) -> Result<(), Error> {
    if found.is_empty() {
        return Ok(());
    }
    let found: Vec<String> = found.into_iter().map(|(one,)| one).collect();
    Err(Error::Held(format!("{before}{}{behind}", found.join(between))))
}
