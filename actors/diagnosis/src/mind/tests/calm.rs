//! A pod whose spec alone keeps a case open for as long as the pod lives: it is not read to death.

use nameward_messages::ObjectKey;
use nameward_messages::pods::HostNetworkPod;

use super::*;

/// Lets ten minutes pass, with what `fails` besides, and counts the samples; the node's resolver does not know the name.
fn samples(fails: Option<&PathKey>) -> (usize, Vec<Cause>) {
    let mut play = Play::new();
    let pod = HostNetworkPod {
        uid: uid("33333333-agent"),
        key: ObjectKey::new("shop", "agent"),
        dns_nameservers: Vec::new(),
        container: "agent".to_owned(),
        name: "cart.shop.svc".to_owned(),
    };
    play.tell(Input::Misfits(Arc::new(vec![pod])));
    if let Some(path) = fails {
        play.suspect(path, &Outcome::Timeout);
    }
    let (mut count, mut named) = (0, Vec::new());
    for _ in 0..6_000 {
        for output in std::mem::take(&mut play.out) {
            match output {
                Output::Tell(tell) => named.extend(stands(std::slice::from_ref(&tell)).iter().map(|v| v.cause)),
                Output::Probe(request) => {
                    let ms = play.ms();
                    let says =
                        |p: &PathKey| if Some(p) == fails { Outcome::Timeout } else { Outcome::Rcode { rcode: 3 } };
                    let seen = request.items.iter();
                    let observations =
                        seen.map(|i| observation(i.path.clone(), says(&i.path), ms, i.purpose.clone())).collect();
                    let answer = ProbeAnswer { id: request.id, at: play.now, observations };
                    play.tell(Input::Prober(ProberTells::Answer(Arc::new(answer))));
                }
                Output::Collect(want) => {
                    count += 1;
                    let mut sample = testing::sample(play.ms());
                    sample.pods.retain(|uid, _| want.pods.iter().any(|p| &p.uid == uid));
                    play.tell(Input::Evidence { id: want.id, sample: Box::new(sample) });
                }
                Output::Trace(want) => play.traced.push(want),
            }
        }
        play.pass(100);
    }
    named.sort();
    named.dedup();
    (count, named)
}

#[test]
fn what_lasts_without_a_failing_path_is_read_once_a_minute() {
    let (count, named) = samples(None);
    assert_eq!(named, [Cause::HostNetworkDnsPolicy]);
    // Two to be sure, and one in each of ten minutes.
    assert!((8..=13).contains(&count), "{count} samples in ten minutes");
}

#[test]
fn what_fails_besides_is_read_as_often_as_ever() {
    let path = PathKey { target: testing::service(), ..host_to_a() };
    let (count, _) = samples(Some(&path));
    assert!(count > 40, "{count} samples in ten minutes");
}
