//! CORE: every kind of problem: its stable code and the text that `explain` prints. A code is never used for anything else again.

use crate::problem::Severity;

/// The code of a kind of problem, such as `E0031`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Code(&'static str);

impl Code {
    pub(crate) const fn id(self) -> &'static str {
        self.0
    }

    pub(crate) fn severity(self) -> Severity {
        if self.0.starts_with('E') {
            Severity::Error
        } else {
            Severity::Warning
        }
    }
}

macro_rules! codes {
    ($($name:ident = $id:literal: $text:literal;)+) => {
        $(#[doc = $text] pub(crate) const $name: Code = Code($id);)+

        const ALL: &[(&str, &str)] = &[$(($id, $text),)+];
    };
}

/// What is behind a code: what it means, why it is refused, what to do.
pub fn explain(code: &str) -> Option<&'static str> {
    ALL.iter()
        .find(|(id, _)| *id == code)
        .map(|(_, text)| *text)
}

/// Every code, in order.
pub fn codes() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(id, _)| *id)
}

codes! {
    UNREADABLE = "E0001": "The file, or one that it includes, cannot be read. Check the path (an include is relative to the file that names it) and the permissions: the daemons do not run as root.";
    SYNTAX = "E0002": "This is not TOML. What follows the mark is read as far as it can be told, so that other mistakes are reported too; some of them may be consequences of this one.";
    UNKNOWN_KEY = "E0003": "The table has no such key. Unknown keys are refused, because a setting that is silently ignored is worse than one that is missing.";
    WRONG_TYPE = "E0004": "The value has the wrong type, for example a number where a string with a unit is expected.";
    MISSING_KEY = "E0005": "A key without a sensible default is missing.";
    UNKNOWN_WORD = "E0006": "The key allows only certain words; the help line lists them.";
    OUT_OF_RANGE = "E0007": "The number is outside of what the protocol, the kernel or the daemon can carry.";
    BAD_UNIT = "E0008": "A duration, size or percentage could not be read. Every one is written with its unit (\"100ms\", \"32KiB\", \"5%\"), because nginx counts seconds and keepalived counts centiseconds.";
    BAD_ADDRESS = "E0009": "An address, address range, MAC address or port could not be read.";
    DUPLICATE_NAME = "E0010": "The same name is declared in two files. Each element is declared once; an environment changes single values with `[override]`.";
    DUPLICATE_SETTING = "E0011": "The same setting is given in two files. Keep it in one, or change it with `[override]`.";
    INCLUDE_TWICE = "E0012": "A file is included twice, or includes itself. Every file is read once.";
    OVERRIDE_NOTHING = "E0013": "`[override]` changes what is declared elsewhere; it cannot declare an element of its own. The name is probably misspelt.";
    SCHEMA_VERSION = "E0014": "The file is written for another version of the format. This daemon keeps its present configuration; install a version that knows the format.";
    BAD_NAME = "E0015": "Names appear in paths, logs and metrics, so they are limited to letters, digits, `_`, `-` and `.`.";
    ONE_OF = "E0016": "Exactly one of several keys must be given: they say different things about the same matter.";
    EMPTY_LIST = "E0017": "The list is empty, and the element could do nothing.";
    LISTED_TWICE = "E0018": "The same entry stands twice in one list.";
    BAD_INCLUDE = "E0019": "`include` takes paths relative to the file, with `*` only in the last component.";

    UNKNOWN_NETWORK = "E0101": "No network has this name. Networks are declared as `[network.NAME]`.";
    OUTSIDE_NETWORK = "E0102": "The address does not lie in any range of the network it is said to be in. Either the address or the network's `cidr` is mistyped.";
    UNKNOWN_NODE = "E0103": "No node has this name. Nodes are declared as `[node.NAME.on]`.";
    ADDRESS_TWICE = "E0104": "Two nodes have the same address: one of them would not be reachable.";
    UNKNOWN_GROUP = "E0105": "No group has this name. Groups are declared as `[group.NAME]`.";
    BAD_INTERFACE = "E0106": "The kernel would not accept this as the name of an interface.";
    NETWORKS_OVERLAP = "E0107": "Two networks share addresses, so that nobody can say in which one an address lies. A network here is one layer-2 segment.";
    HOST_BITS = "E0108": "A network is written with its first address: 10.0.0.0/24, not 10.0.0.5/24.";
    UNKNOWN_SELF = "E0109": "A daemon finds its share of the file by the node's name: `--node`, by default the host name. The platform has no node of that name.";
    DELAY_WITHOUT_PREEMPT = "E0201": "`preempt = false` means that the VIP is never taken back while its holder lives; a delay before doing so has no meaning.";
    TRACK_PORT = "E0202": "A tracked check looks at the director's own node, where no virtual service gives the port.";
    UNKNOWN_VIP = "E0301": "No VIP has this name. VIPs are declared as `[vip.NAME]`.";
    UNKNOWN_SCHEDULER = "E0302": "The kernel has no such scheduler. The names are those of `ipvsadm -s`.";
    SCHEDULER_FLAG = "E0303": "Only the hashing schedulers `sh` and `mh` have flags.";
    PERSISTENCE_TIME = "E0304": "The kernel keeps the persistence time-out in whole seconds, at least one.";
    PORT_REWRITE = "E0305": "With direct routing and with tunnels the packet arrives at the real server as the client sent it, port included. Only NAT can change the port.";
    SERVER_TWICE = "E0306": "One real server would get two entries; the kernel refuses the second one.";
    SERVER_UNATTACHED = "E0307": "The node has no address under which the directors could reach it.";
    FAMILY = "E0308": "IPVS forwards IPv4 to IPv4 and IPv6 to IPv6 (except through tunnels): a service of both families needs real servers with addresses of both.";
    SYNC_GROUP = "E0309": "Connection synchronisation is sent to a multicast group.";
    UNKNOWN_CHECK = "E0501": "No check has this name. Named checks are declared as `[check.NAME]`.";
    TIMEOUT_OVER_INTERVAL = "E0502": "A check that is still waiting when the next one is due would overlap with it, and the time to detection would not be what `fall` and `interval` say.";
    ZERO_TIME = "E0503": "A time of zero has no meaning for this key.";
    CHECK_OPTION_MISSING = "E0504": "This kind of check cannot be done without the option.";
    FOREIGN_OPTION = "E0505": "The option belongs to another kind of check and would be ignored.";
    BAD_STATUS = "E0506": "Accepted status codes are written as 204, \"200-399\" or \"2xx\".";
    CHECK_FAMILY = "E0507": "A check's source and target address must be of one family.";
    BAD_METHOD = "E0508": "Request methods are case-sensitive and written in capitals (RFC 9110 section 9.1).";
    BAD_BIND = "E0401": "A listener binds \":80\" (every address of both families) or one address with its port.";
    BAD_SERVER = "E0402": "A server of an upstream is an address or a host name, with its port.";
    SERVER_LISTED_TWICE = "E0403": "The same server stands twice in an upstream. Its share is set with `weight`.";
    TLS_SERVER_NAME = "E0404": "Without a server name the servers' certificates could not be verified, and anybody in between could read the traffic.";
    BAD_HOST = "E0405": "A site answers to host names such as \"shop.example\", to \"*.shop.example\", or with \"*\" to any other name.";
    UNKNOWN_LISTENER = "E0406": "No listener has this name. Listeners are declared as `[listener.NAME]`.";
    UNKNOWN_UPSTREAM = "E0407": "No upstream has this name. Upstreams are declared as `[upstream.NAME]`.";
    BAD_PATH = "E0408": "A path begins with `/` and is compared with the request's path after normalisation, without query.";
    BAD_REGEX = "E0409": "The regular expression cannot be compiled.";
    HOST_WITHOUT_UPSTREAM = "E0410": "`host` sets the Host header of the request to the upstream; a redirect or a fixed answer has none.";
    REDIRECT_STATUS = "E0411": "Redirects are 301, 302, 303, 307 or 308 (RFC 9110 section 15.4).";
    BAD_HEADER = "E0412": "Names and values of header fields follow RFC 9110 sections 5.1 and 5.5.";
    FRAMING_HEADER = "E0413": "Header fields that describe the connection or the message's framing are edge's own business: setting them by hand is how requests are smuggled.";
    RELATIVE_PATH = "E0601": "Paths in this file are absolute: a daemon's working folder is not the file's.";
    LOG_TARGET = "E0602": "The access log goes to \"stdout\", to a file named by an absolute path, or nowhere (\"off\").";
}
