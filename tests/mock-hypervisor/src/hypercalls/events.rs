//! `event_channel_op`.

use hypercall_abi::{
    DomId, Errno, Gfn, PAGE_SIZE, Port, VcpuId, event_channel::*, peer::PeerPtr, xen::Virq,
};
use zerocopy::IntoBytes;

use super::{Call, read};
use crate::core::{
    event_channels::{Binding, DOM0},
    memory::GuestMemory,
};

impl Call<'_> {
    pub(super) fn event_channel_op(
        &mut self,
        memory: &impl GuestMemory,
        op: usize,
        arg: usize,
    ) -> Result<usize, Errno> {
        match op {
            EVTCHNOP_SEND => {
                let port: Port = read(memory, arg)?;
                self.core.send(self.domid, port).map(|()| 0)
            }
            EVTCHNOP_CLOSE => {
                let port: Port = read(memory, arg)?;
                self.core.close(self.domid, port).map(|()| 0)
            }
            EVTCHNOP_ALLOC_UNBOUND => {
                let mut alloc: EvtchnAllocUnbound = read(memory, arg)?;
                self.own(alloc.dom)?;
                let remote = match alloc.remote_dom {
                    DomId::SELF => self.domid,
                    other => other,
                };
                alloc.port = self.state().ports.open(Binding::Unbound(remote))?;
                memory.copy_out(arg, alloc.as_bytes()).map(|()| 0)
            }
            EVTCHNOP_BIND_INTERDOMAIN => {
                let mut bind: EvtchnBindInterdomain = read(memory, arg)?;
                let remote = match bind.remote_dom {
                    DomId::SELF => self.domid,
                    other => other,
                };
                bind.local_port =
                    self.core
                        .bind_interdomain(self.domid, remote, bind.remote_port)?;
                memory.copy_out(arg, bind.as_bytes()).map(|()| 0)
            }
            EVTCHNOP_BIND_VIRQ => {
                let mut bind: EvtchnBindVirq = read(memory, arg)?;
                bind.port = self.bind_virq(bind.virq, bind.vcpu)?;
                memory.copy_out(arg, bind.as_bytes()).map(|()| 0)
            }
            // No device is given to this domain; a PVH guest is asked for none.
            EVTCHNOP_BIND_PIRQ => {
                let mut bind: EvtchnBindPirq = read(memory, arg)?;
                if !self.state().is_pvh() {
                    return Err(Errno::EPERM);
                }
                let binding = Binding::Pirq(bind.pirq);
                let state = self.state();
                if state.ports.find(binding).is_some() {
                    return Err(Errno::EEXIST);
                }
                bind.port = state.ports.open(binding)?;
                memory.copy_out(arg, bind.as_bytes()).map(|()| 0)
            }
            EVTCHNOP_BIND_IPI => {
                let mut bind: EvtchnBindIpi = read(memory, arg)?;
                self.has_vcpu(bind.vcpu)?;
                bind.port = self.state().ports.open(Binding::Ipi(bind.vcpu))?;
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
                self.has_vcpu(bind.vcpu)?;
                let state = self.state();
                match state.ports.binding(bind.port)? {
                    Binding::Unbound(_)
                    | Binding::Interdomain(..)
                    | Binding::Console
                    | Binding::Store => {
                        state.ports.bind_vcpu(bind.port, bind.vcpu);
                        Ok(0)
                    }
                    _ => Err(Errno::EINVAL),
                }
            }
            EVTCHNOP_UNMASK => {
                let port: Port = read(memory, arg)?;
                let state = self.state();
                state.ports.binding(port)?;
                state.ports.unmask(port);
                Ok(0)
            }
            EVTCHNOP_RESET => {
                let reset: EvtchnReset = read(memory, arg)?;
                self.own(reset.dom)?;
                self.state().ports.reset();
                Ok(0)
            }
            EVTCHNOP_INIT_CONTROL => {
                let mut control: EvtchnInitControl = read(memory, arg)?;
                self.init_control(&control)?;
                control.link_bits = EVTCHN_FIFO_LINK_BITS as u8;
                memory.copy_out(arg, control.as_bytes()).map(|()| 0)
            }
            EVTCHNOP_EXPAND_ARRAY => {
                let expand: EvtchnExpandArray = read(memory, arg)?;
                if !self.state().ports.has_queues() {
                    return Err(Errno::EOPNOTSUPP);
                }
                let page = self.frame(expand.array_gfn)?;
                let state = self.state();
                state.ports.expand_array(page)?;
                Ok(0)
            }
            EVTCHNOP_SET_PRIORITY => {
                let set: EvtchnSetPriority = read(memory, arg)?;
                self.state().ports.set_priority(set.port, set.priority)?;
                Ok(0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// A frame of this guest's memory.
    fn frame<T>(&mut self, gfn: Gfn) -> Result<PeerPtr<'static, T>, Errno> {
        let page = self.state().memory.ram_of(gfn).ok_or(Errno::EINVAL)?;
        // SAFETY: a page of the domain's memory, which lives as long as its
        // state does; the guest gave it to the hypervisor.
        Ok(unsafe { PeerPtr::new(page.cast()) })
    }

    fn init_control(&mut self, control: &EvtchnInitControl) -> Result<(), Errno> {
        self.has_vcpu(control.vcpu)?;
        let offset = control.offset as usize;
        // In the page, whole, and on a word of 8 bytes.
        if offset > PAGE_SIZE - size_of::<EvtchnFifoControlBlock>() || !offset.is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        let page = self.frame::<u8>(control.control_gfn)?;
        let place = std::ptr::NonNull::new(page.as_ptr()).ok_or(Errno::EINVAL)?;
        // SAFETY: the offset lies in the page.
        let place = unsafe { place.add(offset) }.cast::<EvtchnFifoControlBlock>();
        // SAFETY: as for the page.
        let block = unsafe { PeerPtr::new(place) };
        let state = self.state();
        let vcpus = state.vcpus.len() as u32;
        state.ports.init_control(control.vcpu, vcpus, block)
    }

    fn bind_virq(&mut self, virq: Virq, vcpu: VcpuId) -> Result<Port, Errno> {
        let per_vcpu = [Virq::TIMER, Virq::DEBUG, Virq::XENOPROF, Virq::XENPMU];
        if virq.0 >= hypercall_abi::xen::NR_VIRQS {
            return Err(Errno::EINVAL);
        }
        if !per_vcpu.contains(&virq) && vcpu != VcpuId(0) {
            return Err(Errno::EINVAL);
        }
        self.has_vcpu(vcpu)?;
        let binding = Binding::Virq(virq, vcpu);
        let state = self.state();
        if state.ports.find(binding).is_some() {
            return Err(Errno::EEXIST);
        }
        state.ports.open(binding)
    }

    fn status(&mut self, status: &mut EvtchnStatus) -> Result<(), Errno> {
        status.vcpu = VcpuId(0);
        let binding = match status.port {
            // Reserved, and so never open.
            Port(0) => Binding::Closed,
            port => {
                let state = self.state();
                status.vcpu = state.ports.vcpu(port);
                state.ports.binding(port)?
            }
        };
        (status.status, status.u) = match binding {
            Binding::Closed => (ChannelStatus::CLOSED, status.u),
            Binding::Unbound(remote) => (ChannelStatus::UNBOUND, u64::from(remote.0)),
            Binding::Console | Binding::Store => (ChannelStatus::INTERDOMAIN, u64::from(DOM0.0)),
            Binding::Interdomain(dom, port) => {
                let other = EvtchnStatusInterdomain {
                    dom,
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
            Binding::Pirq(pirq) => (ChannelStatus::PIRQ, u64::from(pirq)),
        };
        Ok(())
    }
}
