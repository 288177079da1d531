"""MuJoCo: render and store an image at every step of a simulation, without slowing the simulation down.

Run it with ``python examples/mujoco_frames.py`` (``pip install mujoco``). It renders without a display: on the GPU by
default; set ``MUJOCO_GL=osmesa`` to render on the CPU.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("MUJOCO_GL", "egl")  # mujoco reads it on import

import mujoco
import numpy as np

from ml_dash import Experiment

STEPS = 150
FRAMES_PER_SECOND = 30
HEIGHT, WIDTH = 480, 640

MODEL = """
<mujoco model="acrobats">
  <option timestep="0.002" integrator="implicitfast"/>
  <visual>
    <headlight ambient=".35 .35 .35" diffuse=".5 .5 .5" specular=".2 .2 .2"/>
    <global offwidth="640" offheight="480"/>
    <quality shadowsize="1024" offsamples="2"/>
  </visual>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1=".55 .72 .92" rgb2=".12 .18 .32" width="256" height="256"/>
    <texture name="floor" type="2d" builtin="checker" rgb1=".35 .42 .52" rgb2=".45 .53 .64" width="256" height="256"/>
    <material name="floor" texture="floor" texrepeat="1 1" texuniform="true"/>
    <material name="skin" rgba=".95 .62 .32 1" specular=".4"/>
    <material name="steel" rgba=".75 .78 .82 1" specular=".8" shininess=".7"/>
  </asset>
  <default>
    <joint damping=".15" armature=".01"/>
    <geom density="600" friction="1 .1 .05"/>
    <default class="limb"><geom type="capsule" material="skin"/></default>
    <default class="rack"><geom type="capsule" size=".03" material="steel" contype="0" conaffinity="0"/></default>
  </default>
  <worldbody>
    <light pos="1 -2 5" dir="-.2 .4 -1" diffuse=".9 .9 .9" castshadow="true"/>
    <camera name="side" pos="2.2 -4.2 1.75" xyaxes=".886 .464 0 -.05 .09 .99" fovy="36"/>
    <geom name="floor" type="plane" size="0 0 .1" material="floor"/>
    <geom class="rack" fromto="0 -.8 2 0 .8 2"/>
    <geom class="rack" fromto="0 -.8 0 0 -.8 2"/>
    <geom class="rack" fromto="0 .8 0 0 .8 2"/>
    <body name="acrobat" pos="0 0 2" euler="0 75 0">
      <joint name="bar" type="hinge" axis="0 1 0"/>
      <geom class="limb" fromto="0 -.16 0 0 -.16 -.55" size=".045"/>
      <geom class="limb" fromto="0 .16 0 0 .16 -.55" size=".045"/>
      <geom class="limb" type="sphere" pos="0 0 -.48" size=".12"/>
      <geom class="limb" fromto="0 -.08 -.68 0 .08 -.68" size=".13" rgba=".2 .55 .85 1"/>
      <geom class="limb" fromto="0 0 -.72 0 0 -1.0" size=".14" rgba=".2 .55 .85 1"/>
      <body pos="0 0 -1.08">
        <joint name="hip" type="hinge" axis="0 1 0" range="-70 100"/>
        <geom class="limb" fromto="0 -.1 0 0 -.1 -.42" size=".065" rgba=".16 .2 .32 1"/>
        <geom class="limb" fromto="0 .1 0 0 .1 -.42" size=".065" rgba=".16 .2 .32 1"/>
        <body pos="0 0 -.44">
          <joint name="knee" type="hinge" axis="0 1 0" range="0 130"/>
          <geom class="limb" fromto="0 -.1 0 0 -.1 -.4" size=".05"/>
          <geom class="limb" fromto="0 .1 0 0 .1 -.4" size=".05"/>
        </body>
      </body>
    </body>
    <body name="ball" pos="-.9 0 .9">
      <freejoint/>
      <geom type="sphere" size=".18" rgba=".9 .3 .35 1" solref="-3000 -6" density="150"/>
    </body>
  </worldbody>
  <actuator>
    <motor name="hip" joint="hip" gear="45" ctrlrange="-1 1"/>
    <motor name="knee" joint="knee" gear="20" ctrlrange="-1 1"/>
  </actuator>
</mujoco>
"""


def pump(data: mujoco.MjData) -> None:
    """Swing the legs in the direction of the motion, as a child does on a swing."""
    data.ctrl[:] = np.tanh(2 * data.joint("bar").qvel[0]) * np.array([0.8, -0.5])


def simulate(exp: Experiment) -> float:
    """Step, render and record; return the duration in seconds."""
    model = mujoco.MjModel.from_xml_string(MODEL)
    data = mujoco.MjData(model)
    substeps = round(1 / FRAMES_PER_SECOND / model.opt.timestep)
    exp.params.set(model=model.names.split(b"\0")[0].decode(), nq=model.nq, nv=model.nv, timestep=model.opt.timestep)
    with mujoco.Renderer(model, HEIGHT, WIDTH) as renderer:
        started = time.perf_counter()
        for number in range(STEPS):
            pump(data)
            mujoco.mj_step(model, data, substeps)
            renderer.update_scene(data, camera="side")
            exp.files("frames").save_image(renderer.render(), to=f"frame_{number:05d}.jpg", quality=95)
            exp.tracks("state").append(qpos=data.qpos, qvel=data.qvel, ctrl=data.ctrl, _ts=data.time)
            exp.metrics("swing").log(step=number, angle=data.joint("bar").qpos[0], speed=data.joint("bar").qvel[0])
        return time.perf_counter() - started


def main() -> None:
    """Simulate, and print the cost of recording."""
    root = sys.argv[1] if len(sys.argv) > 1 else ".dash"
    experiment = Experiment("examples/mujoco/frames", readme="An acrobat on a bar.", dash_root=root)
    with experiment.run as exp:
        seconds = simulate(exp)
        folder = exp.folder
    health = experiment.health()
    print(f"{STEPS} steps of {WIDTH}x{HEIGHT} pixels in {seconds:.1f} s, rendered with {os.environ['MUJOCO_GL']}")
    print(
        f"recording took {health['cost_seconds'] / seconds:.1%} of that time: {health['frames_written']} frames written,"
    )
    print(f"{health['frames_dropped']} dropped; they are in {folder}/files/frames")


if __name__ == "__main__":
    main()
