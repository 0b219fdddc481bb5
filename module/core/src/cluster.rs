//! Where a cluster keeps a slot, as CLUSTER NODES tells it: a client that was blocked is sent on as the server itself sends
//! its own.

/// The error that sends a client on, if this node does not serve the slot (`MOVED`), or serves it and is handing a key of it
/// that is missing here over to another (`ASK`).
#[must_use]
pub fn redirection(nodes: &str, slot: u16, is_missing: bool) -> Option<String> {
    let nodes: Vec<Node<'_>> = nodes.lines().filter_map(Node::parse).collect();
    let Some(owner) = nodes.iter().find(|node| node.slots().any(|range| holds(range, slot))) else {
        return Some("CLUSTERDOWN Hash slot not served".into());
    };
    if !owner.is_myself {
        return Some(format!("MOVED {slot} {}", owner.address));
    }
    let migrating = format!("[{slot}->-");
    let target = owner.slots().find_map(|word| word.strip_prefix(migrating.as_str())?.strip_suffix(']'))?;
    let target = nodes.iter().find(|node| node.id == target)?;
    is_missing.then(|| format!("ASK {slot} {}", target.address))
}

/// A line of CLUSTER NODES: id, ip:port@bus-port[,hostname], flags, and from the ninth word on its slots.
struct Node<'a> {
    id: &'a str,
    address: &'a str,
    is_myself: bool,
    line: &'a str,
}

impl<'a> Node<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        let (id, address, flags) = (words.next()?, words.next()?, words.next()?);
        let (address, _) = address.split_once('@')?;
        Some(Self { id, address, is_myself: flags.split(',').any(|flag| flag == "myself"), line })
    }

    fn slots(&self) -> impl Iterator<Item = &'a str> {
        self.line.split(' ').skip(8)
    }
}

fn holds(range: &str, slot: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "\
a1 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-5000 5002 [93->-b2] [94-<-b2]
b2 127.0.0.1:7002@17002,host master - 0 1 2 connected 5001 5003-16000
c3 127.0.0.1:7003@17003 slave b2 0 1 2 connected
";

    #[test]
    fn a_slot_of_another_node_is_moved_there() {
        assert_eq!(redirection(NODES, 5001, true).as_deref(), Some("MOVED 5001 127.0.0.1:7002"));
        assert_eq!(redirection(NODES, 16000, false).as_deref(), Some("MOVED 16000 127.0.0.1:7002"));
        assert_eq!(redirection(NODES, 5000, true), None);
        assert_eq!(redirection(NODES, 5002, false), None);
        assert_eq!(redirection(NODES, 16001, true).as_deref(), Some("CLUSTERDOWN Hash slot not served"));
    }

    #[test]
    fn a_key_that_has_gone_ahead_of_its_slot_is_asked_for_there() {
        assert_eq!(redirection(NODES, 93, true).as_deref(), Some("ASK 93 127.0.0.1:7002"));
        assert_eq!(redirection(NODES, 93, false), None, "it is still here");
        assert_eq!(redirection(NODES, 94, true), None, "it is coming, not going");
    }
}
