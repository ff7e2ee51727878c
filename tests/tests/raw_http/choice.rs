//! Which route takes a path at edge, and which location at nginx: one table, written in both languages.
//!
//! nginx's prefixes end anywhere, edge's at a segment boundary, so each of ours is the prefix `/x/` there, and an expression for `/x` itself
//! behind all others.

/// `=` exact, `~` expression, else a prefix; the place in the list is the answer.
pub(crate) const ROUTES: [&str; 16] = [
    "/",
    "/api",
    "/api/v1",
    "/api/v1/users",
    "=/api",
    "=/api/v1/users/7",
    "=/img/7.png",
    "=/a b",
    "~\\.png$",
    "~^/img/[0-9]+$",
    "~^/[a-z]$",
    "~^/api/v[0-9]+/users/[0-9]+$",
    "/img",
    "/img/thumbs",
    "=/x/y",
    "/x",
];

/// Segments of which the paths are made: plain and odd spellings of what the routes name, and what they do not.
const SEGMENTS: [&str; 20] = [
    "api", "v1", "users", "7", "img", "7.png", "thumbs", "x", "y", "a%20b", "%61pi", "im%67", "",
    ".", "..", "%2e%2e", "ap", "apix", "7.PNG", "z",
];

/// At least so many paths are compared.
pub(crate) const PATHS: usize = 200;

/// edge's routes, for a site of their own.
pub(crate) fn platform() -> String {
    let routes = ROUTES.iter().enumerate().map(|(number, route)| {
        let (key, text) = match (route.strip_prefix('='), route.strip_prefix('~')) {
            (Some(exact), _) => ("path_exact", exact.replace(' ', "%20")),
            (_, Some(regex)) => ("path_regex", regex.to_owned()),
            _ => ("path", (*route).to_owned()),
        };
        format!(
            "[[site.route]]\n{key} = '{text}'\nrespond = {{ status = 200, body = \"{number}\" }}\n"
        )
    });
    format!(
        "[[site]]\nhosts = [\"choice.example\"]\n{}",
        routes.collect::<String>()
    )
}

/// nginx's locations.
pub(crate) fn configuration() -> String {
    let (mut locations, mut last) = (String::new(), String::new());
    for (number, route) in ROUTES.iter().enumerate() {
        let answer = format!("{{ return 200 \"{number}\"; }}\n");
        match (route.strip_prefix('='), route.strip_prefix('~')) {
            (Some(exact), _) => locations += &format!("location = \"{exact}\" {answer}"),
            (_, Some(regex)) => locations += &format!("location ~ \"{regex}\" {answer}"),
            (None, None) if *route == "/" => locations += &format!("location / {answer}"),
            (None, None) => {
                locations += &format!("location {route}/ {answer}");
                // The prefix itself comes after all expressions.
                last += &format!("location ~ \"^{route}$\" {answer}");
            }
        }
    }
    format!("server {{\nlisten 10.0.0.11:81;\nserver_name choice.example;\n{locations}{last}}}\n")
}

/// Paths without a repetition, the same ones each time.
pub(crate) fn paths() -> Vec<String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap_or(0)
    };
    let mut paths: Vec<String> = ROUTES
        .iter()
        .filter(|route| !route.starts_with('~'))
        .map(|route| route.trim_start_matches('=').replace(' ', "%20"))
        .collect();
    paths.extend(["/img/7", "/api/v1/users/8", "/q"].map(str::to_owned));
    paths.sort();
    paths.dedup();
    while paths.len() < PATHS * 2 {
        let mut path = String::new();
        for _ in 0..=next(4) {
            path.push('/');
            path.push_str(SEGMENTS[next(SEGMENTS.len())]);
        }
        if next(3) == 0 {
            path.push('/');
        }
        if next(4) == 0 {
            path.push_str("?x=/api");
        }
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}
