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

    UNKNOWN_SECRET = "E0110": "No secret has this name. Secrets are declared as `[secret.NAME]`, with a file.";
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
    TRACK_KIND = "E0240": "Each entry of `track` looks at one thing: a check, an interface, a file, a process, an address or a route.";
    TRACK_EFFECT = "E0241": "What is tracked moves the priority by its weight, or, with `fault = true`, makes the node leave the VIP to any other node that can have it.";
    TRACK_VALUE = "E0242": "What is named here cannot be on any machine, so that the tracked thing would be missing for good.";
    FIFO_PATH = "E0243": "A daemon has no folder of its own to start from, so the pipe is named by its whole path.";
    HOOKS_OFF = "E0244": "A hook program runs on each change of state of a virtual router or a sync group, so programs must be allowed explicitly. They run as `[vrrpd] hook_user`. Who only wants to know of changes reads `[vrrpd] fifo` or the events of the control socket.";
    HOOK_ROOT = "E0245": "A hook program must not be able to do more than it needs: it never runs as root.";
    UNKNOWN_VIP = "E0301": "No VIP has this name. VIPs are declared as `[vip.NAME]`.";
    UNKNOWN_SCHEDULER = "E0302": "The kernel has no such scheduler. The names are those of `ipvsadm -s`.";
    SCHEDULER_FLAG = "E0303": "Only the hashing schedulers `sh` and `mh` have flags.";
    PERSISTENCE_TIME = "E0304": "The kernel keeps the persistence time-out in whole seconds, at least one.";
    PORT_REWRITE = "E0305": "With direct routing and with tunnels the packet arrives at the real server as the client sent it, port included. Only NAT can change the port.";
    SERVER_TWICE = "E0306": "One real server would get two entries; the kernel refuses the second one.";
    SERVER_UNATTACHED = "E0307": "The node has no address under which the directors could reach it.";
    FAMILY = "E0308": "IPVS forwards IPv4 to IPv4 and IPv6 to IPv6 (except through tunnels): a service of both families needs real servers with addresses of both.";
    SYNC_GROUP = "E0309": "Connection synchronisation is sent to a multicast group.";
    DIRECTOR_WITHOUT_READINESS = "E0324": "Directors ask for edge's readiness over the network of `[edge] readiness`, where edge admits their addresses; so each of them must be attached to it.";
    TUNNEL_WITHOUT_TUN = "E0340": "Only `forward = \"tun\"` wraps packets; with direct routing and NAT there is no tunnel to describe.";
    TUNNEL_OPTION = "E0341": "GUE has a UDP port and both kinds of checksum, GRE a checksum, IP in IP neither: its packets are just another IP header.";
    THRESHOLDS = "E0342": "New connections stop at the upper threshold and start again below the lower one, so the lower one is not above it; the kernel refuses it otherwise (ERANGE). An upper one of 0 is no limit and has no lower one.";
    CONNECTION_TIMEOUT = "E0343": "The kernel keeps the timeouts of IPVS connections in whole seconds, 1 to 2147483 (24 days).";
    PEERS_UNATTACHED = "E0350": "The directors of a VIP read one another's operator intents over the network of `[director] peers`, where each admits the addresses of the others. So each needs an address there, and two directors an address of one family.";
    PATH_CHECK = "E0380": "Checks through the forwarding path are TCP connections to the VIP on one real server: for TCP services that are forwarded by direct routing or tunnel. With NAT the plain check goes the same way already.";
    UNKNOWN_CHECK = "E0501": "No check has this name. Named checks are declared as `[check.NAME]`.";
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
    ROUTE_METHOD = "E0450": "Methods are tokens and are told apart by upper and lower case (RFC 9110 section 9.1); those that clients send are in upper case.";
    BAD_CONDITION = "E0451": "What a route asks of header fields, parameters or cookies must be possible, or the route never gets a request.";
    BAD_TEMPLATE = "E0452": "A text with variables: `$1` is what a group of the regular expression matched, `$uri` and the like are the request's. What a client sends may decide the path and the query, and never to which host a redirect leads.";
    TARGET_CHANGE = "E0453": "`strip_prefix` and `rewrite` say what a server is asked for in the place of the request's own path.";
    BAD_SPLIT = "E0454": "A route with shares sends each client, or whatever `split_key` tells apart, to one of several upstreams and keeps it there.";
    HEADER_TWICE = "E0471": "Levels merge: `[edge]`, then the site, then the route, and the inner one has the last word on a name. Within one level a name is set, added or removed once: to set it replaces all fields of that name, to add puts one beside them.";
    BUFFER_WITHOUT_UPSTREAM = "E0472": "`buffer_request` reads a request body before a server is chosen, so that a slow client keeps no server waiting. A redirect or a fixed answer goes to no server.";
    HEADER_VARIABLE = "E0473": "Values of header fields may have variables, `$name` or `${name}`, with nginx's names as in the access log's formats; `$$` is the sign itself. Only those are possible whose value is known when the request goes to a server, or when the response comes.";
    CLIENT_CA = "E0420": "A client's certificate is judged by the authority that signed it, so the file of that authority is needed.";
    UNKNOWN_CIPHER = "E0421": "Cipher suites are named as in IANA's registry. Only those with forward secrecy and authenticated encryption are there.";
    NO_CIPHER = "E0422": "Each cipher suite belongs to one version of TLS. At least one must belong to a version that is spoken.";
    RELATIVE_PATH = "E0601": "Paths in this file are absolute: a daemon's working folder is not the file's.";
    LOG_TARGET = "E0602": "The access log goes to \"stdout\", to a file named by an absolute path, to a syslog daemon (\"syslog:/dev/log\", or \"syslog:udp:ADDRESS:PORT\", where facility and severity have a meaning), or nowhere (\"off\").";
    MEDIA_TYPE = "E0604": "Responses are compressed by their Content-Type: a type, a slash and a subtype. What follows a `;` there does not count.";
    LOG_FORMAT = "E0603": "A line of the access log is \"combined\", \"json\", or made by a string with variables: \"$remote_addr $status $request_time\". Variables are named as in nginx where nginx has the same; $http_NAME and $sent_http_NAME are header fields of request and response. A variable that does not exist would leave a hole that is found when the log is needed.";

    VIP_OUTSIDE = "E0203": "A virtual address is answered for by ARP on the interface of its network, so it must lie in one of that network's ranges.";
    DIRECTOR_UNATTACHED = "E0204": "A director of a VIP needs an attachment to every network on which the VIP has an address.";
    DIRECTOR_INTERFACE = "E0205": "A director adds virtual addresses to an interface, so its attachment must name one.";
    DIRECTOR_FAMILY = "E0206": "Adverts are sent from the director's own address of the VIP's family, so it needs one.";
    ADVERT_INTERVAL = "E0207": "VRRP version 3 carries the interval in 12 bits of centiseconds: 10ms to 40.95s in steps of 10ms (RFC 9568 section 5.2.7). An interval that had to be rounded would differ between peers.";
    PRIORITY_COUNT = "E0208": "Explicit priorities are given for every director, in the order of `directors`.";
    NOT_OWNER = "E0209": "Priority 255 is reserved for the router whose own address the VIP is (RFC 9568 section 5.2.4). It takes over without waiting, and no check can lower its priority.";
    HEARTBEAT_UNATTACHED = "E0210": "Every director of the VIP must have an interface on the network of the second heartbeat, and an address of the family that the others have there.";
    HEARTBEAT_ID_CLASH = "E0253": "On the second network heartbeats are told apart by the id and the family of their virtual router alone: those of two VIPs with one id would be taken for one another.";
    ROUTER_ID_CLASH = "E0211": "Two virtual routers with one id on one network and family take each other's adverts for their own: both VIPs would flap.";
    VIP_ADDRESS_TWICE = "E0212": "An address is moved by exactly one VIP.";
    VERSION_2_FAMILY = "E0221": "VRRP version 2 (RFC 3768) knows IPv4 only; IPv6 needs version 3.";
    VERSION_2_INTERVAL = "E0222": "VRRP version 2 carries the interval in whole seconds, 1 to 255, and drops adverts with another one than its own.";
    PASSWORD_VERSION = "E0223": "Passwords belong to VRRP version 2; version 3 (RFC 9568) has no authentication of its own.";
    LINK_DELAY = "E0227": "A master whose link is down sends into nothing. If it waits longer than its peers wait for its adverts, they take over while it still holds the addresses.";
    HMAC_KEY_TWICE = "E0225": "Each key of the HMAC has a number of its own, which travels with every advert.";
    HMAC_NO_ACTIVE = "E0226": "One of the keys signs; the others are only taken, so that keys can be changed without a deaf moment.";
    VIRTUAL_MAC_TWICE = "E0251": "The virtual MAC of a virtual router is on an interface `vrrp4.ID` or `vrrp6.ID`, which a director can have once.";
    VIRTUAL_MAC_OWNER = "E0252": "The owner of an address (priority 255) has it on its own interface. The same address on the interface of the virtual MAC would be on the machine twice, with two Ethernet addresses.";
    ADDRESS_OPTION = "E0260": "The kernel has this option for addresses of the other family only, or the value does not fit the address. keepalived hands it over and the kernel ignores it.";
    ADDRESS_LABEL = "E0261": "A label is the interface's name, a colon and a word of your own, together at most 15 characters (IFNAMSIZ). The file gives the word alone, because the interfaces of the directors may have different names.";
    VIP_FAMILY = "E0262": "`family` is for a VIP with `addresses = []`, which moves routes, hooks and unadvertised addresses alone (keepalived's `no_virtual_ipaddress`). Its adverts have no address: version 3 alone allows that, and only between such virtual routers, since others drop them (RFC 9568 erratum 8299).";
    ROUTING_FAMILY = "E0270": "Routes and rules are of one family, and follow the virtual router of that family. Each family of a VIP is a virtual router of its own.";
    ROUTE_GATEWAY = "E0271": "The kernel sends packets for a gateway to its MAC address, so the gateway must be on a network of the directors. Where no address of the interface says so, `onlink` does.";
    ROUTE_SOURCE = "E0272": "The kernel takes a route only while the node has its source address, so the source must be one of the VIP, which is there before the route and goes after it.";
    ROUTE_KIND = "E0273": "A route either sends packets on, by a gateway or into a network, or drops or refuses them.";
    ROUTING_TWICE = "E0274": "The kernel has one route for each destination, table and metric, and each rule once. When one of two VIPs that bring it left the director, the other one would lose it.";
    RULE_SELECTOR = "E0275": "A rule says which packets are routed by its table. One that takes all of them, put there by mistake, cuts the director off.";
    ACCEPT_SERVICE = "E0281": "With `accept = false` (RFC 9568 section 6.1: Accept_Mode) a master that does not own the addresses drops what is sent to them; it only forwards, as the gateway of its network. IPVS balances what the machine would take itself, and a listener gets nothing else either.";
    UNICAST_ALONE = "E0224": "Unicast adverts go to the other directors of the VIP. Where there is none nobody would hear them, and multicast is never used instead.";
    SYNC_GROUP_TWICE = "E0231": "The VIPs of a sync group are on one director, all of them. One that is in two groups would tie both together without saying so.";
    SYNC_GROUP_DIRECTORS = "E0232": "The VIPs of a sync group move together, so each of its directors must be able to hold all of them.";
    VIP_IS_NODE = "E0213": "A virtual address moves; a node's own address stays. An address that is both ends up on two machines.";
    SERVER_IS_VIP = "E0310": "A real server that is a virtual address sends the packets back to the director that forwarded them.";
    DR_NETWORK = "E0311": "Direct routing only rewrites the destination's MAC address, so directors and real servers must be in one layer-2 network.";
    NAT_GATEWAY = "E0312": "With NAT the real servers' answers must pass through the director that translated the request. Their default route therefore is an address that moves with the VIP; keepalived calls it virtual_ipaddress_excluded.";
    MH_PERSISTENCE = "E0313": "The persistence template follows the first connection, `mh` hashes each one: after a takeover the new director, which has only the hash, sends the client elsewhere. Clients stick by `mh` without the port just as well.";
    MH_FALLBACK = "E0314": "Without fallback `mh` returns no server for every connection that hashes to one with weight 0: in a drain, a share of the clients is refused.";
    ONE_PACKET = "E0315": "One-packet scheduling sends every packet for itself to some real server, which only makes sense for UDP.";
    NO_READINESS = "E0316": "A check of kind `edge` asks edge's readiness endpoint, which is declared by `readiness` in `[edge]`.";
    READINESS_UNREACHABLE = "E0317": "A check of kind `edge` goes to the real server's own address on the network of `[edge] readiness`.";
    NOT_AN_EDGE = "E0318": "A check of kind `edge` needs a running edge: a node in the group of some listener.";
    NO_LISTENER = "E0319": "The real server runs edge, but no listener there binds the service's port: every connection would be refused.";
    TWO_BOX_FORWARD = "E0320": "Where directors are real servers at the same time (a two-box site), packets forwarded by the peer are recognised by its MAC address, which works with direct routing only.";
    SERVED_TWICE = "E0321": "The kernel has one service per address, port and protocol.";
    SYNC_UNATTACHED = "E0322": "Every director needs an interface on the network of the connection synchronisation.";
    SYNC_PORTS = "E0370": "The kernel spreads connections over the synchronisation threads by a mask, so their number is a power of two (EINVAL otherwise). It must be the same on all directors: a backup with fewer threads misses what the others send.";
    TAKEOVER_SCHEDULER = "E0371": "During the takeover window the kernel schedules TCP connections that it does not know as if they were new (`sloppy_tcp`, for the whole node). Only `mh` then finds the real server that the other director had chosen; every other scheduler sends established connections to a server that resets them.";
    TAKEOVER_LONG = "E0372": "While `sloppy_tcp` is on, any stray ACK makes a connection entry of 320 bytes that lives for 15 minutes. A takeover is over within seconds.";
    SYNC_MIXED_TUNNEL = "E0323": "The kernel refuses connection synchronisation together with tunnels to real servers of the other address family (EINVAL, without a reason): the messages could not carry such connections.";
    DENIED_AND_ALLOWED = "E0381": "`deny` wins over `allow`: what is allowed and lies within a denied network as a whole is never let in.";
    QUORUM_RANGE = "E0360": "The quorum is lost below quorum - hysteresis and regained at quorum + hysteresis (as in keepalived). Outside of 0 % to 100 % it would never be lost, or never come back.";
    SORRY_IS_SERVER = "E0361": "The sorry server takes new connections when too few real servers are healthy. One that is a real server as well would be taken out together with the others, and the kernel has one entry per address and port.";
    SORRY_IS_DIRECTOR = "E0362": "A director that gets a packet for the VIP from its peer balances it again. A sorry server on the directors themselves is written as a loopback address: the director that holds the VIP delivers the connection to its own sockets.";
    NO_BUDGET = "E0363": "A change budget lets failed checks take out a share of the pool in a time, one server at least. Without a share no dead server would ever go, without a time nothing is limited.";
    EDGE_CHECK_PLACE = "E0509": "A check of kind `edge` makes the director ask a real server's edge; it has no meaning for upstreams and tracked checks.";
    EXEC_OFF = "E0510": "A program as a check is started for every target, again and again, so it must be allowed explicitly. It runs as `[director] exec_user`.";
    EXEC_PLACE = "E0512": "Edge faces the internet. It has no right to start programs, so that nobody who takes it over has one either.";
    BAD_DNS_NAME = "E0513": "A host name is made of labels of at most 63 letters, digits, `-` and `_`, 253 characters in all (RFC 1035 section 2.3.4).";
    BAD_HEX = "E0514": "Bytes are written as pairs of hexadecimal digits.";
    CA_UNUSED = "E0515": "Without verification every certificate is accepted, so that a CA file would be ignored.";
    EXEC_ROOT = "E0516": "A program that runs as a check must not be able to do more than it needs: it never runs as root.";
    BIND_CLASH = "E0414": "Two sockets of one node cannot have the same address and port. \":80\" holds port 80 of every address.";
    READINESS_UNATTACHED = "E0415": "Edge binds its readiness endpoint on the node's addresses of that network; a node without one could never be ready.";
    HOST_TWICE = "E0416": "On one listener a host belongs to one site; with two, the second would never be asked.";
    ROUTE_TWICE = "E0417": "The same path stands twice among a site's routes: only the first would ever be used. `/api` and `/api/` are one prefix. Routes of one path may differ in what else they ask: methods, header fields, parameters, cookies.";
    CIRCLE = "E0418": "The upstream is a virtual address whose real servers are these very edges: a request would go round until every connection is used up.";
    ONE_DIRECTOR = "W0201": "A VIP with one director cannot move.";
    EQUAL_PRIORITIES = "W0202": "With equal priorities the addresses decide which of two masters stays (RFC 9568 section 6.4.3), which is rarely what was meant.";
    PRIORITY_ORDER = "W0203": "The order of `directors` and the priorities say different things; the priorities win.";
    WEIGHT_TOO_SMALL = "W0204": "The priority of the preferred director, less the weight, is still not below the next director's, and a backup does not take over at equal priority. With keepalived's usual gap of 20 and a weight of -20 the VIP does not move either.";
    PENALTY_TOO_SMALL = "W0205": "The priority of the preferred director, less the penalty, is still not below the next director's: a director that is not ready would keep the VIP.";
    CLEAR_PASSWORD = "W0221": "The password of VRRP version 2 is sent in clear text with every advert: it keeps misconfigured routers apart, no attacker. Adverts from outside the network are refused by their TTL anyway.";
    SYNC_GROUP_PRIORITIES = "W0231": "A sync group has one priority on each director: the lowest of its VIPs', with everything that lowers it. So all networks agree on who is preferred, and no two groups pull at one another.";
    HEARTBEAT_SAME = "W0206": "A second heartbeat path over the first one's network fails together with it.";
    UNUSED_VIP = "W0301": "The VIP moves between directors, but nothing answers on it.";
    SYNC_ON_CLIENTS = "W0302": "Connection synchronisation is plain, unauthenticated multicast; anybody in that network can read and forge it.";
    MH_WEIGHTS = "W0303": "The kernel's `mh` keeps 6 bits of each weight, after dividing by their greatest common divisor; larger ones are rounded.";
    ALL_DRAINED = "W0304": "A weight of 0 takes no new connections; a service whose servers all have it accepts none.";
    SYNC_ALONE = "W0370": "Connections are synchronised between directors; a VIP with a single one has nobody to send them to.";
    PORT_WITHOUT_LISTENER = "W0305": "Edge on the real servers listens on some of the service's ports, but not on this one: connections to it are refused.";
    DENY_WITHOUT_EFFECT = "W0381": "With `allow`, only its networks are let in. Denying something outside of them changes nothing; perhaps one of the two is mistyped.";
    ACCESS_FAMILY = "W0382": "The VIPs of the service have no address of this family, so no client of it ever comes.";
    FAMILY_SHUT_OUT = "W0383": "`allow` holds for all clients. Where it names networks of one family only, nobody of the other one is let in.";
    COVERED_TWICE = "W0384": "The network lies within another one of the same list and changes nothing.";
    TUNNEL_ROOM = "W0340": "A tunnel puts a header around each packet: 20 bytes for IP in IP over IPv4 and 40 over IPv6, 4 more for GRE (8 with a checksum), 12 more for GUE. Where the network to the real server cannot carry that, packets are answered with \"fragmentation needed\", and connections stall where ICMP is filtered. A smaller advmss on the real servers' routes makes clients send smaller packets.";
    ONE_PACKET_PERSISTENCE = "W0341": "Persistence remembers the client's server before the scheduler is asked, so all packets of a client go to one server and one-packet scheduling has no effect but its cost.";
    ONE_PACKET_NAT = "E0344": "With one-packet scheduling the kernel forgets a packet once it is sent on, so it cannot translate the answer back: the client gets it from the real server's own address and drops it.";
    THRESHOLD_BY_HASH = "W0342": "Hashing schedulers send a client to one server. A server over its threshold takes no connection: `dh`, and `sh` and `mh` without fallback, then refuse the client; with fallback another server is chosen, but only by the director that has counted the connections.";
    MANY_PORTS = "W0343": "Matched by address, each port of each address is a service of its own in the kernel, with all destinations: thousands of ports take megabytes, and each look at the table takes longer. A firewall mark stands for all of them.";
    MARK_PORT = "W0344": "A real server's own port takes the place of the connection's port, whichever that was; of a service with several ports all would arrive at one.";
    SCTP_CHECK = "W0345": "A check that speaks TCP says nothing about a server of SCTP: its port may be open for one and closed for the other.";
    FLOOR_UNUSED = "W0360": "With a sorry server the quorum goes before the floor: once the quorum is lost the sorry server takes the new connections, so a floor that is not above it is never reached.";
    SLOW_START_SCHEDULER = "W0361": "Slow start raises the weight in steps. `rr`, `lc` and `dh` see only whether a weight is 0, `fo` and `ovf` read it differently, and `sh` and `mh` fill their table anew, moving clients, for every step.";
    SLOW_START_WEIGHT = "W0362": "Weights are whole numbers, and 1 is the smallest that takes connections: such a server cannot start with less than its full share.";
    SORRY_FAMILY = "W0363": "IPVS forwards IPv4 to IPv4 and IPv6 to IPv6 (except through tunnels): the service's other addresses refuse connections when no real server is healthy, or use those that are not.";
    NO_CERTIFICATE = "E0423": "A listener with TLS shows the certificate of the site whose host a client names. Without any every handshake fails.";
    CLIENT_IDENTITY = "E0424": "A certificate is shown to the servers together with proof of its private key; one of the two files alone is of no use.";
    STREAMS_WITHOUT_HTTP2 = "E0425": "Only HTTP/2 carries several requests on one connection at once. An upstream speaks HTTP/1 unless `protocol` says otherwise.";
    FILE_UNREADABLE = "E0430": "This node needs the file, and it cannot be read by who runs `check`: the daemon would refuse to start, or to reload. Run `check` as the daemon's own user to see what it sees.";
    FILE_UNUSABLE = "E0431": "The file is there, but its content is of no use: a key that belongs to another certificate, a certificate that is none. A reload with it is refused as a whole, and what ran before goes on.";
    FILE_ELSEWHERE = "W0430": "The file cannot be read on this machine. It is no node that needs it, or `check` runs without the right to read it, so nothing is said about its content.";
    CERTIFICATE_ENDS = "W0431": "Whoever is shown a certificate that has ended refuses the connection. Certificates are read at start and at every reload, so a renewed one needs `edge reload`.";
    REQUEST_KEY = "E0440": "A key tells requests apart: whose server is which, whose limit is reached. So it is made of what is known when the request has come, and differs between requests.";
    BACKUP_WITH_HASH = "E0441": "Backup servers take requests while no other one may. With a hash each client or key has a server of its own, and those of a server that is out go to the others (as in nginx, where `backup` and `hash` exclude one another).";
    ONLY_BACKUPS = "E0442": "Backup servers are for when the others cannot serve. An upstream of backups alone has no others.";
    SLOW_START_WITH_HASH = "E0443": "Slow start lets the share of a server that comes back grow. With a hash its clients come back to it at once, or move once more at every step.";
    QUEUE_WITHOUT_LIMIT = "E0444": "Requests wait while every server has as many under way as its `max_conns` allows. Where no server has a limit none ever waits.";
    BAD_COOKIE = "E0445": "Name, path and domain of a cookie go into Set-Cookie (RFC 6265 section 4.1.1), where a blank or a `;` would begin something else.";
    UNKNOWN_LIMIT = "E0446": "No limit has this name. Limits are declared as `[limit.NAME]`.";
    LIMIT_OF_NOTHING = "E0447": "A limit says how often a client may ask, how many of its requests may be under way at once, or both.";
    BURST_WITHOUT_RATE = "E0448": "The burst is what may come earlier than the rate allows. Requests at once are limited by `concurrent`, which has none.";
    DELAY_OVER_BURST = "E0449": "Of the requests that come early, those up to `delay_after` go on at once, those up to `burst` wait, and what is beyond is refused.";
    UNUSED_LIMIT = "W0440": "No site and no route names the limit, so nothing is limited by it. Perhaps a name was changed in one place only.";
    REDIRECT_HTTP = "W0450": "`redirect_http` sends clients from listeners without TLS to those with it, so the site needs both.";
    SOCKET_PATH = "E0427": "The kernel keeps the path of a unix socket in 108 bytes with a zero at its end (unix(7)). It stands in logs and metrics, so it has no spaces and no control characters.";
    UNIX_CHECK = "E0428": "A server on a unix socket has neither address nor port. Only checks that connect and speak over a stream can be made there: `tcp`, `http` and `https`.";
    SOCKET_MODE = "E0429": "The mode of a socket's file is written in octal, as for chmod(1): who may write to it may connect. The x bits and those above them mean nothing for sockets.";
    SOCKET_RIGHTS_UNUSED = "E0470": "Only unix sockets have a file, and with it a mode and a group.";
    KEEPALIVE_SECONDS = "E0426": "The kernel counts keep-alive probes in whole seconds, 1 to 32767 (tcp(7): TCP_KEEPIDLE, TCP_KEEPINTVL).";
    UNUSED_CERTIFICATE = "W0406": "The certificate of a site is shown on listeners with `tls = true` only.";
    UNUSED_UPSTREAM = "W0401": "No route leads to the upstream. Perhaps a name was changed in one place only.";
    ROUTE_SHADOWED = "W0402": "Another route of the site takes all requests that this one could get.";
    NO_LISTENERS = "W0403": "Sites are served on listeners; without one, edge binds nothing.";
    LISTENER_WITHOUT_SITE = "W0404": "Requests on this listener find no site and get 421.";
    ALL_SERVERS_DRAINED = "W0405": "A weight of 0 takes no requests; an upstream whose servers all have it serves none.";
    UNUSED_SECRET = "W0504": "Nothing refers to the secret. Perhaps a name was changed in one place only.";
    UNUSED_CHECK = "W0501": "Nothing refers to the check. Perhaps a name was changed in one place only.";
    TIMEOUT_OVER_INTERVAL = "W0502": "A check that is still waiting when the next one is due delays it: with a silent target the time to detection is `fall` times the timeout, not `fall` times the interval.";
    UDP_WITHOUT_ANSWER = "W0503": "A UDP service that gets a datagram and says nothing cannot be told from a host that is gone: the check fails only where the host itself refuses by ICMP port unreachable.";
}
