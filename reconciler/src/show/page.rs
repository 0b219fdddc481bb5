//! The live page: one file without outside assets, and the policy that keeps it so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// The page. It shows what `/status` says, and asks for nothing else.
pub const HTML: &str = include_str!("page.html");

/// What the browser may do with it: run its own script, use its own style, and ask the daemon. The digests are taken of
/// the very text that is served, so a script that found its way into the page by a coupon's id would not run.
pub static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        digest("script"),
        digest("style")
    )
});

/// Of the only element of this name.
fn digest(element: &str) -> String {
    let inside =
        HTML.split_once(&format!("<{element}>")).and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
    let (text, _) = inside.unwrap_or_default();
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_one_file_without_outside_assets() {
        for element in ["script", "style"] {
            assert_eq!(HTML.matches(&format!("<{element}")).count(), 1, "{element}");
            assert_eq!(HTML.matches(&format!("<{element}>")).count(), 1, "{element}");
        }
        // A name, which no browser asks for.
        let html = HTML.replace("http://www.w3.org/2000/svg", "");
        for outside in
            ["http:", "https:", "src=", "@import", "url(", "innerHTML", "insertAdjacentHTML", "document.write"]
        {
            assert!(!html.contains(outside), "{outside}");
        }
        for inline in [" style=", " onclick=", " onload=", "javascript:"] {
            assert!(!HTML.contains(inline), "{inline} is forbidden by the policy");
        }
        // Of no text at all.
        let nothing = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='";
        assert!(POLICY.contains("script-src 'sha256-") && !POLICY.contains(nothing), "{}", *POLICY);
    }
}
