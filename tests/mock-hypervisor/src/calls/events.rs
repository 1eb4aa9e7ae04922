//! `event_channel_op`: the 2-level interface.

use hypercall_abi::{DomId, Errno, Port, VcpuId, event_channel::*, xen::Virq};
use zerocopy::IntoBytes;

use super::{GUEST, read};
use crate::{Domain, memory::GuestMemory, ports::Binding};

/// The domain whose store, console and backends there would be.
const DOM0: DomId = DomId(0);

impl Domain {
    pub(super) fn event_channel_op(
        &self,
        memory: &impl GuestMemory,
        op: usize,
        arg: usize,
    ) -> Result<usize, Errno> {
        match op {
            EVTCHNOP_SEND => {
                let port: Port = read(memory, arg)?;
                self.send(port)
            }
            EVTCHNOP_CLOSE => {
                let port: Port = read(memory, arg)?;
                self.lock().ports.close(port).map(|()| 0)
            }
            EVTCHNOP_ALLOC_UNBOUND => {
                let mut alloc: EvtchnAllocUnbound = read(memory, arg)?;
                self.own(alloc.dom)?;
                let remote = match alloc.remote_dom {
                    DomId::SELF => GUEST,
                    other => other,
                };
                alloc.port = self.lock().ports.open(Binding::Unbound(remote))?;
                memory.copy_out(arg, alloc.as_bytes()).map(|()| 0)
            }
            EVTCHNOP_BIND_INTERDOMAIN => {
                let mut bind: EvtchnBindInterdomain = read(memory, arg)?;
                bind.local_port = self.bind_interdomain(bind.remote_dom, bind.remote_port)?;
                memory.copy_out(arg, bind.as_bytes()).map(|()| 0)
            }
            EVTCHNOP_BIND_VIRQ => {
                let mut bind: EvtchnBindVirq = read(memory, arg)?;
                bind.port = self.bind_virq(bind.virq, bind.vcpu)?;
                memory.copy_out(arg, bind.as_bytes()).map(|()| 0)
            }
            // No device is given to this domain.
            EVTCHNOP_BIND_PIRQ => {
                let _bind: EvtchnBindPirq = read(memory, arg)?;
                Err(Errno::EPERM)
            }
            EVTCHNOP_BIND_IPI => {
                let mut bind: EvtchnBindIpi = read(memory, arg)?;
                self.vcpu(bind.vcpu)?;
                bind.port = self.lock().ports.open(Binding::Ipi(bind.vcpu))?;
                memory.copy_out(arg, bind.as_bytes()).map(|()| 0)
            }
            EVTCHNOP_STATUS => {
                let mut status: EvtchnStatus = read(memory, arg)?;
                self.own(status.dom)?;
                self.status(&mut status)?;
                memory.copy_out(arg, status.as_bytes()).map(|()| 0)
            }
            EVTCHNOP_BIND_VCPU => {
                let bind: EvtchnBindVcpu = read(memory, arg)?;
                self.vcpu(bind.vcpu)?;
                match self.lock().ports.binding(bind.port)? {
                    Binding::Unbound(_) | Binding::Interdomain(_) | Binding::Console => Ok(0),
                    _ => Err(Errno::EINVAL),
                }
            }
            EVTCHNOP_UNMASK => {
                let port: Port = read(memory, arg)?;
                let state = self.lock();
                state.ports.binding(port)?;
                state.ports.unmask(port);
                Ok(0)
            }
            EVTCHNOP_RESET => {
                let reset: EvtchnReset = read(memory, arg)?;
                self.own(reset.dom)?;
                self.lock().ports.reset();
                Ok(0)
            }
            EVTCHNOP_INIT_CONTROL => {
                let control: EvtchnInitControl = read(memory, arg)?;
                self.vcpu(control.vcpu)?;
                // The FIFO interface is not modelled; what Xen refuses is.
                if control.offset & 7 != 0 {
                    return Err(Errno::EINVAL);
                }
                Err(Errno::ENOSYS)
            }
            EVTCHNOP_EXPAND_ARRAY => {
                let _array: EvtchnExpandArray = read(memory, arg)?;
                Err(Errno::EOPNOTSUPP)
            }
            EVTCHNOP_SET_PRIORITY => {
                let priority: EvtchnSetPriority = read(memory, arg)?;
                self.lock().ports.binding(priority.port)?;
                Err(Errno::ENOSYS)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// That there is such a vCPU.
    pub(super) fn vcpu(&self, vcpu: VcpuId) -> Result<(), Errno> {
        if vcpu.0 < self.vcpus {
            Ok(())
        } else {
            Err(Errno::ENOENT)
        }
    }

    fn bind_interdomain(&self, remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        if remote == DOM0 {
            // It offers nothing.
            return Err(Errno::EINVAL);
        }
        if remote != DomId::SELF && remote != GUEST {
            return Err(Errno::ESRCH);
        }
        let mut state = self.lock();
        if state.ports.binding(remote_port)? != Binding::Unbound(GUEST) {
            return Err(Errno::EINVAL);
        }
        let local = state.ports.open(Binding::Interdomain(remote_port))?;
        state.ports.rebind(remote_port, Binding::Interdomain(local));
        // The new end may have missed an event: it is told at once.
        state.ports.set_pending(local);
        Ok(local)
    }

    fn bind_virq(&self, virq: Virq, vcpu: VcpuId) -> Result<Port, Errno> {
        let per_vcpu = [Virq::TIMER, Virq::DEBUG, Virq::XENOPROF, Virq::XENPMU];
        if virq.0 >= hypercall_abi::xen::NR_VIRQS {
            return Err(Errno::EINVAL);
        }
        if !per_vcpu.contains(&virq) && vcpu != VcpuId(0) {
            return Err(Errno::EINVAL);
        }
        self.vcpu(vcpu)?;
        let binding = Binding::Virq(virq, vcpu);
        let mut state = self.lock();
        if state.ports.find(binding).is_some() {
            return Err(Errno::EEXIST);
        }
        state.ports.open(binding)
    }

    fn status(&self, status: &mut EvtchnStatus) -> Result<(), Errno> {
        status.vcpu = VcpuId(0);
        let binding = match status.port {
            // Reserved, and so never open.
            Port(0) => Binding::Closed,
            port => self.lock().ports.binding(port)?,
        };
        (status.status, status.u) = match binding {
            Binding::Closed => (ChannelStatus::CLOSED, status.u),
            Binding::Unbound(remote) => (ChannelStatus::UNBOUND, u64::from(remote.0)),
            Binding::Console => (ChannelStatus::INTERDOMAIN, 0),
            Binding::Interdomain(port) => {
                let other = EvtchnStatusInterdomain {
                    dom: GUEST,
                    port,
                    ..Default::default()
                };
                (ChannelStatus::INTERDOMAIN, zerocopy::transmute!(other))
            }
            Binding::Virq(virq, vcpu) => {
                status.vcpu = vcpu;
                (ChannelStatus::VIRQ, u64::from(virq.0))
            }
            Binding::Ipi(vcpu) => {
                status.vcpu = vcpu;
                (ChannelStatus::IPI, 0)
            }
        };
        Ok(())
    }

    fn send(&self, port: Port) -> Result<usize, Errno> {
        let mut state = self.lock();
        match state.ports.binding(port)? {
            Binding::Closed | Binding::Virq(..) => return Err(Errno::EINVAL),
            // Nobody is bound yet: the event is lost, and that is no error.
            Binding::Unbound(_) => {}
            Binding::Console => {
                if state.console.serve() {
                    state.ports.set_pending(port);
                }
            }
            Binding::Interdomain(other) => state.ports.set_pending(other),
            Binding::Ipi(_) => state.ports.set_pending(port),
        }
        self.event.notify_all();
        Ok(0)
    }
}
