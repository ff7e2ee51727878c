//! CORE: limits of clients' requests, as written.

use crate::decode::{WholeNumber, table};
use crate::unit::Rate;

table! {
    /// How often, and how many at once. One table of counts, shared by all routes that name it.
    Limit {
        required {}
        optional {
            /// What is counted by: variables and text, such as "$remote_addr" or "$http_x_api_key"; a request without it is not counted. Default: the client's address, of IPv6 the /64.
            key: String,
            /// Requests a second or a minute, such as "20/s" or "5/m".
            rate: Rate,
            /// Requests that may come earlier than the rate allows. Default 0.
            burst: WholeNumber<0, 1_000_000>,
            /// How many of these go on at once; the others are delayed until the rate allows them. Default: all (nginx's nodelay); 0: none (nginx without it).
            delay_after: WholeNumber<0, 1_000_000>,
            /// Requests under way at once.
            concurrent: WholeNumber<1, 1_000_000>,
            /// The status of what is refused. Default 429.
            status: WholeNumber<400, 599>,
            /// Keys that are remembered; the one that was not seen for longest is forgotten first. Default 100000, about 100 bytes each.
            entries: WholeNumber<100, 100_000_000>,
        }
    }
}
