//! The interface travels with this crate, so that a plugin anywhere on disk can be built; it is the one that the host speaks.

#[test]
fn the_copy_of_the_interface_is_the_interface() {
    let ours = include_str!("../wit/plugin.wit");
    let theirs = include_str!("../../../wit/plugin.wit");
    assert!(ours == theirs, "copy wit/plugin.wit to plugins/weir-plugin/wit/plugin.wit");
}
