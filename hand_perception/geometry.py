"""Projection, fits and frames: plain numpy, float64 inside.

Points are metres in the camera frame (x right, y down, z forward), pixels have the centre of the
top-left pixel at (0, 0). ``...`` is any leading batch shape, also none.
"""

from __future__ import annotations

import numpy as np

from hand_perception.hands import INDEX_MCP, MIDDLE_MCP, PINKY_MCP, WRIST, Camera, Pose, Side

# Nearer points are projected from here, so that a pixel stays finite. A lens sits closer.
MIN_DEPTH_M = 1e-3
# Hands are sought between a hand's thickness and far beyond where a network sees one.
_HAND_DEPTH_M = (0.02, 50.0)
# Below this, in pixels, a joint's error is never taken for that of a stray one.
_INLIER_PX = 2.0
# A hand's box is its joints' bounds and so much of their longer side around them.
BOX_MARGIN = 0.1


# -- cameras ----------------------------------------------------------------------------------


def project(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Pixels [..., 2] of points [..., 3], through the lens distortion.

    Depths below MIN_DEPTH_M count as MIN_DEPTH_M.
    """
    points = np.asarray(points, np.float64)
    ideal = points[..., :2] / np.maximum(points[..., 2:], MIN_DEPTH_M)
    return _to_pixels(_distort(ideal, camera), camera)


def undistort_points(pixels: np.ndarray, camera: Camera) -> np.ndarray:
    """Where the ideal pinhole with the same K would have seen pixels [..., 2].

    Newton's method on the distortion. Pixels that no point in front of the lens can reach get the
    nearest match found, so the result is finite for finite input.
    """
    distorted = _to_normalised(np.asarray(pixels, np.float64), camera)
    if camera.distortion_model == "equidistant":
        return _to_pixels(_undistort_equidistant(distorted, camera.distortion), camera)
    if not any(camera.distortion):
        return _to_pixels(distorted, camera)
    return _to_pixels(_undistort_polynomial(distorted, camera), camera)


def slopes(pixels: np.ndarray, camera: Camera) -> np.ndarray:
    """x / z and y / z, [..., 2], of the rays that pixels [..., 2] are seen on."""
    return _to_normalised(undistort_points(pixels, camera), camera)


def _to_pixels(normalised: np.ndarray, camera: Camera) -> np.ndarray:
    return normalised * (camera.fx, camera.fy) + (camera.cx, camera.cy)


def _to_normalised(pixels: np.ndarray, camera: Camera) -> np.ndarray:
    return (pixels - (camera.cx, camera.cy)) / (camera.fx, camera.fy)


def _distort(xy: np.ndarray, camera: Camera) -> np.ndarray:
    """The lens: ideal to distorted normalised coordinates, OpenCV's formulas."""
    if camera.distortion_model == "equidistant":
        radius = np.linalg.norm(xy, axis=-1, keepdims=True)
        theta = np.arctan(radius)
        bent = _equidistant_polynomial(theta, camera.distortion)[0]
        return xy * np.where(radius > 1e-12, bent / np.maximum(radius, 1e-12), 1.0)
    if not any(camera.distortion):
        return xy
    k1, k2, p1, p2, k3, k4, k5, k6 = (*camera.distortion, *[0.0] * (8 - len(camera.distortion)))
    x, y = xy[..., 0], xy[..., 1]
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=-1,
    )


def _equidistant_polynomial(theta: np.ndarray, k: tuple[float, ...]) -> tuple[np.ndarray, ...]:
    """The bent angle and its derivative: theta (1 + k1 theta^2 + ... + k4 theta^8)."""
    t2 = theta * theta
    value = theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))
    slope = 1 + t2 * (3 * k[0] + t2 * (5 * k[1] + t2 * (7 * k[2] + t2 * 9 * k[3])))
    return value, slope


def _undistort_equidistant(distorted: np.ndarray, k: tuple[float, ...]) -> np.ndarray:
    bent = np.linalg.norm(distorted, axis=-1, keepdims=True)
    # A pinhole cannot show what lies at 90 degrees or behind.
    limit = np.radians(89.0)
    theta = np.minimum(bent, limit)
    for _ in range(20):
        value, slope = _equidistant_polynomial(theta, k)
        theta = np.clip(theta - (value - bent) / np.maximum(slope, 0.1), 0.0, limit)
    return distorted * np.where(bent > 1e-12, np.tan(theta) / np.maximum(bent, 1e-12), 1.0)


def _undistort_polynomial(distorted: np.ndarray, camera: Camera) -> np.ndarray:
    def miss(xy: np.ndarray) -> np.ndarray:
        return _distort(xy, camera) - distorted

    step = 1e-6
    xy = best = distorted
    best_error = np.linalg.norm(miss(best), axis=-1, keepdims=True)
    for _ in range(15):
        residual = miss(xy)
        jx = (miss(xy + (step, 0)) - residual) / step
        jy = (miss(xy + (0, step)) - residual) / step
        det = jx[..., :1] * jy[..., 1:] - jx[..., 1:] * jy[..., :1]
        det = np.where(np.abs(det) < 1e-3, 1e-3, det)
        dx = (jy[..., 1:] * residual[..., :1] - jy[..., :1] * residual[..., 1:]) / det
        dy = (jx[..., :1] * residual[..., 1:] - jx[..., 1:] * residual[..., :1]) / det
        # Half the frame at most per step: far outside, the polynomials turn back.
        xy = xy - np.clip(np.concatenate([dx, dy], axis=-1), -0.5, 0.5)
        error = np.linalg.norm(miss(xy), axis=-1, keepdims=True)
        best = np.where(error < best_error, xy, best)
        best_error = np.minimum(error, best_error)
        if np.all(best_error < 1e-10):
            break
    return best


# -- fits -------------------------------------------------------------------------------------


def rigid_fit(
    a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The rotation R [..., 3, 3] and translation t [..., 3] that bring a onto b: b = R a + t.

    a, b: [..., N, 3]. weights: [..., N] or None. Least squares, proper rotations only (Kabsch).
    """
    _, rotation, translation = _procrustes(a, b, weights, with_scale=False)
    return rotation, translation


def similarity_fit(
    a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale s [...], R [..., 3, 3] and t [..., 3] of b = s R a + t (Umeyama 1991, eq. 40 to 42).

    a, b: [..., N, 3]. weights: [..., N] or None. Proper rotations only.
    """
    return _procrustes(a, b, weights, with_scale=True)


def _procrustes(
    a: np.ndarray, b: np.ndarray, weights: np.ndarray | None, with_scale: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    w = np.ones(a.shape[:-1]) if weights is None else np.asarray(weights, np.float64)
    w = np.broadcast_to(w, a.shape[:-1])[..., None]
    w = w / np.maximum(w.sum(-2, keepdims=True), 1e-300)
    mean_a, mean_b = (w * a).sum(-2, keepdims=True), (w * b).sum(-2, keepdims=True)
    da, db = a - mean_a, b - mean_b
    u, sigma, vt = np.linalg.svd(np.swapaxes(w * db, -1, -2) @ da)
    # A reflection is undone along the direction that carries least.
    sign = np.ones_like(sigma)
    sign[..., 2] = np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)
    rotation = (u * sign[..., None, :]) @ vt
    if with_scale:
        variance = (w * da**2).sum((-1, -2))
        scale = (sigma * sign).sum(-1) / np.maximum(variance, 1e-300)
    else:
        scale = np.ones(a.shape[:-2])
    rotated = (rotation @ np.swapaxes(mean_a, -1, -2))[..., 0]
    return scale, rotation, mean_b[..., 0, :] - scale[..., None] * rotated


def solve_translation(
    joints3d: np.ndarray,
    joints2d: np.ndarray,
    camera: Camera,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Where a root-relative hand stands in the camera frame, from its 2D joints and the true K.

    Each joint gives two equations linear in t, written for the undistorted pixel (u, v):

        fx (X + tx) - (u - cx) (Z + tz) = 0,    fy (Y + ty) - (v - cy) (Z + tz) = 0

    As they stand, noise in (u, v) multiplies the unknown tz and draws the hand nearer (by 8 % at
    10 px over a hand of 150 px). So they are linearised at the last round's projection, where the
    noise stands only on the right-hand side, and divided by the last depth, which makes their
    error one of pixels: Gauss-Newton, from the weak-perspective estimate. Rows weigh by Geman and
    McClure's function of the error over twice the median error: all joints count at first, stray
    ones hardly in the end.

    joints3d: [N, 3] metres. joints2d: [N, 2] pixels of the camera's (distorted) image.
    weights: [N] or None. Returns t [3] with t_z > 0 and the distance in (undistorted) pixels
    between each joint and its projection, [N]. Where the equations put the hand behind the camera
    or nowhere (all joints on one spot), the weak-perspective estimate is returned instead.
    """
    joints3d = np.asarray(joints3d, np.float64)
    ideal = slopes(joints2d, camera)
    w = np.ones(len(joints3d)) if weights is None else np.asarray(weights, np.float64)
    focal = np.array([camera.fx, camera.fy])

    start = _weak_perspective(joints3d, ideal, w)
    t = start
    for _ in range(6):
        trusted = w * _trust(_reprojection_px(joints3d, ideal, focal, t), w)
        t = _solve_rows(joints3d, ideal, focal, trusted, t)
        if t is None or np.min(joints3d[:, 2] + t[2]) < _HAND_DEPTH_M[0] / 2:
            t = start
            break
    t[2] = np.clip(t[2], *_HAND_DEPTH_M)
    return t, _reprojection_px(joints3d, ideal, focal, t)


def _weak_perspective(joints3d: np.ndarray, ideal: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Depth from the ratio of the spreads, position from the centroids."""
    w = (w / max(w.sum(), 1e-12))[:, None]
    centre3d, centre2d = (w * joints3d).sum(0), (w * ideal).sum(0)
    spread3d = np.sqrt((w * (joints3d - centre3d)[:, :2] ** 2).sum())
    spread2d = np.sqrt((w * (ideal - centre2d) ** 2).sum())
    depth = np.clip(spread3d / max(spread2d, 1e-9), *_HAND_DEPTH_M)
    return np.array([*(centre2d * depth - centre3d[:2]), np.maximum(depth - centre3d[2], 0.02)])


def _reprojection_px(
    joints3d: np.ndarray, ideal: np.ndarray, focal: np.ndarray, t: np.ndarray
) -> np.ndarray:
    moved = joints3d + t
    seen = moved[:, :2] / np.maximum(moved[:, 2:], MIN_DEPTH_M)
    return np.linalg.norm((seen - ideal) * focal, axis=-1)


def _trust(residual_px: np.ndarray, w: np.ndarray) -> np.ndarray:
    counted = residual_px[w > 0] if np.any(w > 0) else residual_px
    width = max(2 * float(np.median(counted)), _INLIER_PX)
    return 1 / (1 + (residual_px / width) ** 2) ** 2


def _solve_rows(
    joints3d: np.ndarray, ideal: np.ndarray, focal: np.ndarray, w: np.ndarray, t: np.ndarray
) -> np.ndarray | None:
    """One weighted solve around t; None when the rows do not fix a translation."""
    depth = np.maximum(joints3d[:, 2] + t[2], _HAND_DEPTH_M[0] / 2)
    scale = np.sqrt(w)[:, None] * focal / depth[:, None]  # [N, 2]
    seen = (joints3d + t)[:, :2] / depth[:, None]
    rows = np.zeros((*ideal.shape, 3))
    rows[:, 0, 0] = rows[:, 1, 1] = 1.0
    rows[..., 2] = -seen
    right = rows @ t + (ideal - seen) * depth[:, None]
    a = (rows * scale[..., None]).reshape(-1, 3)
    solution, _, rank, _ = np.linalg.lstsq(a, (right * scale).reshape(-1), rcond=1e-9)
    return solution if rank == 3 and np.all(np.isfinite(solution)) else None


# -- frames -----------------------------------------------------------------------------------


def wrist_frame(keypoints3d: np.ndarray, side: Side) -> Pose:
    """The wrist's pose, from keypoints [21, 3] in the camera frame.

    Origin: the wrist. x: from the wrist to the middle finger's MCP, along the fingers of a flat
    hand. z: out of the back of the hand (dorsal), for both sides. y = z x x: towards the thumb of
    a right hand, towards the little finger of a left one.

    A palm without a plane (its joints on a line or on one spot) gets the axes nearest to those of
    the camera, with z towards the viewer; the pose is always a finite rotation for finite input.
    """
    points = np.asarray(keypoints3d, np.float64)
    wrist = points[WRIST]
    palmar = np.cross(points[INDEX_MCP] - wrist, points[PINKY_MCP] - wrist)
    dorsal = palmar if side is Side.LEFT else -palmar
    x = _unit(points[MIDDLE_MCP] - wrist)
    if x is None:
        x = np.array([0.0, -1.0, 0.0])  # fingers up in the image
    for candidate in (dorsal, [0, 0, -1.0], [0, -1.0, 0]):
        across = _unit(candidate)
        z = None if across is None else _unit(across - across.dot(x) * x, minimum=1e-6)
        if z is not None:
            break
    return Pose(np.stack([x, np.cross(z, x), z], axis=-1), wrist.copy())


def _unit(vector: np.ndarray, minimum: float = 1e-9) -> np.ndarray | None:
    length = np.linalg.norm(vector)
    return np.asarray(vector, np.float64) / length if length > minimum else None


def quaternion_xyzw(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternions [..., 4] (x, y, z, w; ROS's order) with w >= 0 of rotations [..., 3, 3]."""
    r = np.asarray(rotation, np.float64)
    diagonal = np.stack([r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]], axis=-1)
    trace = diagonal.sum(-1)
    # 4 q q^T from the matrix (Shepperd 1978): the row with the largest diagonal is the best
    # conditioned multiple of q.
    outer = np.empty((*r.shape[:-2], 4, 4))
    for i in range(3):
        outer[..., i, i] = 1 + 2 * diagonal[..., i] - trace
        j, k = (i + 1) % 3, (i + 2) % 3
        outer[..., i, j] = outer[..., j, i] = r[..., j, i] + r[..., i, j]
        outer[..., i, 3] = outer[..., 3, i] = r[..., k, j] - r[..., j, k]
    outer[..., 3, 3] = 1 + trace
    row = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
    q = np.take_along_axis(outer, row[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[..., 3:] < 0, -q, q)


# -- meshes and boxes -------------------------------------------------------------------------


def rotation_to_axis(ray: np.ndarray) -> np.ndarray:
    """[3, 3]: the smallest rotation that turns a ray [3] in front of the camera onto its axis."""
    x, y, z = ray / np.linalg.norm(ray)
    # Rodrigues' formula about ray x axis, written out: no division by the angle's sine.
    k = 1 / (1 + z)
    return np.array([[1 - k * x * x, -k * x * y, -x], [-k * x * y, 1 - k * y * y, -y], [x, y, z]])


def signed_volume(
    vertices: np.ndarray, faces: np.ndarray, rim: np.ndarray | None = None
) -> np.ndarray:
    """Volumes [...] in cubic metres of meshes [..., V, 3] with faces [F, 3]. rim: rim_vertices, to
    find them once for many meshes.

    Positive when the faces wind outwards, so a mirrored mesh is negative. One opening (a wrist) is
    closed by a fan around the centre of its rim: with the apex there, the fan's own tetrahedra are
    flat and drop out of the sum.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    rim = rim_vertices(faces) if rim is None else rim
    apex = vertices[..., rim if len(rim) else faces[0], :].mean(-2, keepdims=True)
    corners = (vertices - apex)[..., faces, :]  # [..., F, 3, 3]
    a, b, c = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]
    return (np.cross(a, b) * c).sum((-1, -2)) / 6


def rim_vertices(faces: np.ndarray) -> np.ndarray:
    """Vertices [N] on edges that only one face has; none of a closed mesh."""
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    keys, counts = np.unique(edges[:, 0] * (faces.max() + 1) + edges[:, 1], return_counts=True)
    single = keys[counts == 1]
    return np.unique(np.concatenate([single // (faces.max() + 1), single % (faces.max() + 1)]))


def barycentric(triangles: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Weights [T, 3] of the point of each triangle [T, 3, 3] nearest to one point.

    The projection onto the plane where it falls inside, else the nearest of the three edges'.
    """
    a, b, c = (triangles[:, k] for k in range(3))
    options = []
    for start, end, which in ((a, b, (0, 1)), (b, c, (1, 2)), (c, a, (2, 0))):
        edge = end - start
        t = ((point - start) * edge).sum(-1) / np.maximum((edge * edge).sum(-1), 1e-20)
        weights = np.zeros((len(triangles), 3))
        weights[:, which[1]] = np.clip(t, 0, 1)
        weights[:, which[0]] = 1 - weights[:, which[1]]
        options.append(weights)
    ab, ac, ap = b - a, c - a, point - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    determinant = np.maximum(d00 * d11 - d01 * d01, 1e-20)
    v, w = (d11 * d20 - d01 * d21) / determinant, (d00 * d21 - d01 * d20) / determinant
    inside = np.stack([1 - v - w, v, w], -1)
    edges = np.stack(options)
    distance = np.linalg.norm((triangles * edges[..., None]).sum(-2) - point, axis=-1)
    nearest = edges[distance.argmin(0), np.arange(len(triangles))]
    return np.where((inside >= 0).all(-1, keepdims=True), inside, nearest)


def joint_boxes(keypoints2d: np.ndarray) -> np.ndarray:
    """What a detector's box of a hand is: the bounds of its joints [..., 21, 2] and BOX_MARGIN of
    their longer side around them, [..., 4] (x0, y0, x1, y1), in the joints' own precision."""
    low, high = keypoints2d.min(-2), keypoints2d.max(-2)
    margin = BOX_MARGIN * (high - low).max(-1, keepdims=True)
    return np.concatenate([low - margin, high + margin], -1)


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union [N, M] of boxes [N, 4] and [M, 4] (x0, y0, x1, y1); empty: 0."""
    overlap, area_a, area_b = _overlap(a, b)
    return _share(overlap, area_a + area_b - overlap)


def box_cover(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Share [N, M] of each box [N, 4] that lies in each of [M, 4] (x0, y0, x1, y1); empty: 0."""
    overlap, area_a, _ = _overlap(a, b)
    return _share(overlap, area_a)


def _overlap(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Areas of intersections [N, M] and of the boxes, [N, 1] and [1, M]."""
    a = np.asarray(a, np.float64).reshape(-1, 1, 4)
    b = np.asarray(b, np.float64).reshape(1, -1, 4)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    overlap, area_a, area_b = (
        np.clip(extent, 0, None).prod(-1)
        for extent in (high - low, a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2])
    )
    return overlap, area_a, area_b


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Indices of the boxes [N, 4] that no better-scored kept box overlaps, best first."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    overlapping = box_iou(boxes, boxes) > iou_threshold
    kept: list[int] = []
    for i in order:
        if not overlapping[i, kept].any():
            kept.append(int(i))
    return np.array(kept, np.int64)
