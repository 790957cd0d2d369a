use node::*;
use std::time::Instant;
use testkit::{Specimen, Subject};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let dir = tempfile::tempdir().unwrap();
    let mut c = NodeConfig::new(dir.path().to_owned());
    if let Some(l) = args.get(3) {
        c.lazy_above_bytes = l.parse::<u64>().unwrap() << 20;
    }
    let node = Node::start(c).unwrap();
    let n: usize = args[2].parse().unwrap();
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut v = vec![];
    for _ in 0..n {
        let mut s = Specimen::launch_with(
            &node,
            &Subject::function(&args[1]).env("PYTHONHASHSEED", "77").env("MALLOC_MMAP_THRESHOLD_", "131072"),
            |s| {
                s.layout = Layout::Pinned { secret: 123456 };
                s.sharing = Sharing::Domain("x".into());
            },
        )
        .unwrap();
        s.sandbox().unwrap().mark_ready().unwrap();
        for k in 0..10 {
            s.ask(&format!("{{\"n\": {k}}}")).unwrap();
        }
        v.push(s);
    }
    for round in 0..4 {
        for s in &v {
            let r = rt.block_on(s.sandbox().unwrap().sleep()).unwrap();
            if round < 2 {
                println!("sleep {r:?}");
            }
        }
        let rec = node.record();
        println!(
            "account {:?} store {} tables {} pages {} own {}",
            rec.account, rec.store_bytes, rec.store_table_bytes, rec.store_pages, rec.own_resident_bytes
        );
        println!(
            "kept {:.2}% of {}",
            rec.account.kept_bytes() as f64 * 100.0 / rec.account.warm_bytes as f64,
            rec.account.warm_bytes
        );
        for s in &mut v {
            s.say("{\"n\": 5}").unwrap();
            let t = Instant::now();
            let w = rt.block_on(s.sandbox().unwrap().wake()).unwrap().unwrap();
            s.answer().unwrap();
            let e = t.elapsed();
            s.sandbox().unwrap().begin_invocation().unwrap();
            s.sandbox().unwrap().end_invocation().unwrap();
            println!("wake {} us total; {w:?}", e.as_micros());
            std::thread::sleep(std::time::Duration::from_millis(100));
            let t = Instant::now();
            s.say("{\"n\": 5}").unwrap();
            s.answer().unwrap();
            if round == 3 {
                println!("warm {} us", t.elapsed().as_micros());
            }
        }
    }
    drop(v);
    node.shutdown();
}
