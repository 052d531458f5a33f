//! The way by which the canary's packets enter the data plane: a veth pair. What this host sends by the near end comes
//! in by the far end, where the program is; what the program sends on comes back to the near end, and leaves by the NIC.
//! Relies on netlink.

use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Handle, LinkUnspec, LinkVeth};

use super::interface::link_named;
use super::{MacAddress, NetworkError, connect, set_setting, setting};

/// The end that packets are sent by.
pub const CANARY_NEAR: &str = "foobar-near";
/// The end where they meet the program.
pub const CANARY_FAR: &str = "foobar-far";

/// The pair, as it was laid; it stays until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanaryPair {
    /// Index of the near end.
    pub near: u32,
    /// Index of the far end.
    pub far: u32,
}

impl CanaryPair {
    /// Lays the pair; one that an earlier daemon has left has to be [removed](Self::remove) before. Frames for the far end
    /// are addressed to `own_mac`, the NIC's, as users' are.
    ///
    /// # Errors
    /// An interface has one of the names, or the kernel refuses.
    pub async fn lay(own_mac: MacAddress) -> Result<Self, NetworkError> {
        let handle = connect()?;
        let pair = LinkVeth::new(CANARY_NEAR, CANARY_FAR).build();
        handle
            .link()
            .add(pair)
            .execute()
            .await
            .map_err(|error| NetworkError::netlink("make the canary's veth pair", error))?;
        // Packets of both families are sent by the near end, whatever the host's default is; the far end's kernel has
        // nothing to say. What there is no setting for is off.
        for (end, disabled) in [(CANARY_NEAR, "0"), (CANARY_FAR, "1")] {
            let path = format!("ipv6/conf/{end}/disable_ipv6");
            if setting(&path).is_some_and(|now| now != disabled) {
                set_setting(&path, disabled)?;
            }
        }
        let far = LinkUnspec::new_with_name(CANARY_FAR).address(own_mac.to_vec());
        for end in [
            far.up().build(),
            LinkUnspec::new_with_name(CANARY_NEAR).up().build(),
        ] {
            handle
                .link()
                .set(end)
                .execute()
                .await
                .map_err(|error| NetworkError::netlink("bring the canary's veth pair up", error))?;
        }
        Ok(Self {
            near: link_named(&handle, CANARY_NEAR).await?.header.index,
            far: link_named(&handle, CANARY_FAR).await?.header.index,
        })
    }

    /// Whether there is a pair, which an earlier daemon may have laid.
    ///
    /// # Errors
    /// An interface of somebody else has the name, or the kernel refuses.
    pub async fn is_laid() -> Result<bool, NetworkError> {
        Ok(near(&connect()?).await?.is_some())
    }

    /// Removes the pair, if there is one.
    ///
    /// # Errors
    /// As in [`is_laid`](Self::is_laid).
    pub async fn remove() -> Result<(), NetworkError> {
        let handle = connect()?;
        let Some(near) = near(&handle).await? else {
            return Ok(());
        };
        handle
            .link()
            .del(near.header.index)
            .execute()
            .await
            .map_err(|error| NetworkError::netlink("remove the canary's veth pair", error))
    }
}

/// The near end, if it is there.
async fn near(handle: &Handle) -> Result<Option<LinkMessage>, NetworkError> {
    match link_named(handle, CANARY_NEAR).await {
        Err(NetworkError::NoInterface(_)) => Ok(None),
        Ok(near) if !is_paired(handle, &near).await? => Err(NetworkError::InUse(format!(
            "an interface that is not foobar's is named {CANARY_NEAR}: the canary needs the name"
        ))),
        near => near.map(Some),
    }
}

/// Whether the two ends belong together, which nobody else's interfaces of these names do.
async fn is_paired(handle: &Handle, near: &LinkMessage) -> Result<bool, NetworkError> {
    let far = match link_named(handle, CANARY_FAR).await {
        Err(NetworkError::NoInterface(_)) => return Ok(false),
        far => far?,
    };
    let is_far = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::Link(peer) if *peer == far.header.index);
    Ok(near.attributes.iter().any(is_far))
}
