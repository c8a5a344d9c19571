//! What a folder says of itself: `pinstone init` writes it, and what another program wrote is read in its place.

use crate::site::Files;
use crate::world::{World, run};

fn site(pages: &[(&str, &str)]) -> Files {
    pages.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
}

#[test]
fn init_writes_what_deploy_reads_and_never_overwrites() {
    let world = World::start();
    crate::site::write(&world.work(), &site(&[("dist/index.html", "made"), ("source.txt", "not for visitors")]));
    let made = world.cli(&["init", "--project", "my-site", "--env", "prod", "--json"]).expect(0).json();
    assert_eq!((&made["directory"], &made["environment"]), (&"dist".into(), &"prod".into()), "{made}");
    world.cli(&["deploy"]).expect(0);
    assert_eq!(world.get("my-site.localhost", "/").expect(200).body, b"made");
    world.get("my-site.localhost", "/source.txt").expect(404);

    let before = std::fs::read(world.work().join("pinstone.toml")).unwrap();
    let told = world.cli(&["init", "--project", "other"]).expect(4).stderr;
    assert!(told.contains("is there already") && told.contains("hint:"), "{told}");
    assert_eq!(std::fs::read(world.work().join("pinstone.toml")).unwrap(), before);
}

#[test]
fn a_folder_of_sitepod_is_deployed_as_it_is() {
    let world = World::start();
    let text = "[project]\nname = \"conf\"\nsubdomain = \"conf\"\nrouting_mode = \"subdomain\"\n[build]\n\
                directory = \".\"\n[deploy]\nignore = [\"**/*.map\", \"drafts/*\"]\nconcurrent = 0\n";
    let pages = [("index.html", "x"), ("a/b.map", "m"), ("drafts/d.html", "d"), ("sitepod.toml", text)];
    crate::site::write(&world.work(), &site(&pages));
    let told = world.cli(&["deploy", "--prod"]).expect(0).stderr;
    assert_eq!(told.matches("`sitepod.toml`").count(), 1, "said once: {told}");
    assert!(told.contains("`deploy.concurrent`") && told.contains("`project.subdomain`"), "{told}");
    world.get("conf.localhost", "/").expect(200);
    for left_out in ["/a/b.map", "/drafts/d.html", "/sitepod.toml"] {
        world.get("conf.localhost", left_out).expect(404);
    }
    // From then on it is this program's.
    world.cli(&["init"]).expect(0);
    let told = world.cli(&["deploy", "--prod"]).expect(0).stderr;
    assert!(!told.contains("sitepod") && told.contains("showed this already"), "{told}");
}

#[test]
fn init_without_a_terminal_asks_nothing() {
    let world = World::stopped();
    let folder = world.folder("Meine Seite", &site(&[("index.html", "x")]));
    let mut command = world.command();
    run({
        command.arg("init").current_dir(&folder);
        command
    })
    .expect(0);
    let written = std::fs::read_to_string(folder.join("pinstone.toml")).unwrap();
    assert!(written.contains("name = \"meine-seite\"") && written.contains("directory = \".\""), "{written}");
    let mut command = world.command();
    command.args(["init", "--project", "a--b"]).current_dir(world.work());
    run(command).expect(2);
    assert!(!world.work().join("pinstone.toml").exists());
}
