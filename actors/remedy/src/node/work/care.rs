//! After-care under way: a look, and the one change of it.

use super::*;

impl NodeMind {
    /// Begins to look after those who asked what is gone.
    pub(in crate::node) fn begin_care(
        &mut self,
        now: Now,
        subject: Subject,
        gone: BTreeSet<IpAddr>,
        mode: Mode,
        out: &mut Vec<Output>,
    ) {
        self.work = Some(Work {
            kind: RemedyKind::DropConntrack,
            cause: Cause::StaleConntrack,
            subject,
            verdict: None,
            after: Some((gone, mode)),
            steps: VecDeque::new(),
            entries: Vec::new(),
            phase: Phase::Looking,
            job: None,
            before: None,
            held: None,
            wake: now.mono + LOOK_EVERY,
        });
        let wanted = self.known().wanted_after();
        self.run(now, Job::Look(wanted), out);
    }

    /// After-care was looked into.
    pub(super) fn care(&mut self, now: Now, gone: &BTreeSet<IpAddr>, mode: Mode, seen: &Seen, out: &mut Vec<Output>) {
        let changes = self.known().changes_after(gone, seen);
        let Some(work) = &mut self.work else { return };
        match changes {
            // Nothing leads there: nothing to do and nothing to tell.
            Err(_) => self.work = None,
            Ok(changes) if mode == Mode::Act => {
                work.steps = changes.into();
                self.next_step(now, out);
            }
            Ok(changes) => {
                let all: Vec<String> = changes.iter().map(ToString::to_string).collect();
                let detail = format!("would run: {}", all.join("; "));
                let told = record(work.kind, &work.subject, mode, RemedyOutcome::WouldAct, detail, now.wall);
                out.push(Output::Tell(told));
                self.work = None;
            }
        }
    }
}
