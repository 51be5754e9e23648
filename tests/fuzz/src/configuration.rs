//! A configuration file, from its text to the plan.

use std::path::PathBuf;
use std::sync::LazyLock;

use weir::inside::plan;

/// A file that cannot be understood gets at least one complaint, and the complaints can be
/// rendered. A file that can be understood is shown without its secrets, and its plan does not
/// differ from itself.
pub fn file(input: &[u8]) {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = PathBuf::from(
            std::env::var("WEIR_FUZZ_FOLDER")
                .unwrap_or_else(|_| std::env::temp_dir().display().to_string()),
        );
        folder.join(format!("weir-fuzz-{}.toml", std::process::id()))
    });
    let path: &PathBuf = &PATH;
    std::fs::write(path, input).expect("a file in memory can be written");
    let environment = |name: &str| (name.len() % 3 > 0).then(|| "hunter-2-from-outside".to_owned());
    match plan::read(
        std::slice::from_ref(path),
        &environment,
        plan::ReadOptions::default(),
    ) {
        Err(complaints) => {
            assert!(
                !complaints.is_empty(),
                "the file is rejected without a complaint"
            );
            assert!(!plan::render(&complaints).is_empty());
        }
        Ok((plan, warnings)) => {
            plan::render(&warnings);
            let shown = plan::redacted(&plan).to_string();
            assert!(!shown.contains("hunter-2-from-outside"), "{shown}");
            assert!(!format!("{plan:?}").is_empty());
            let difference = plan::difference(&plan, &plan);
            assert!(difference.is_empty(), "{difference:?}");
        }
    }
}
